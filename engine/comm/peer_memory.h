#pragma once

#include <cstdint>

#include "absl/types/span.h"
#include "kernels/types.h"

namespace winnow {

enum class Reduction { kSum, kMax };

// How the ranks of a LocalGroup work on each other's memory. Each rank calls with its own number,
// from its own thread, and sees to the order itself: a rank says that its part is ready, all meet
// on the host, and then every rank follows the others.
class PeerMemory {
 public:
  virtual ~PeerMemory() = default;
  // Peers may touch what this rank has enqueued so far.
  virtual void Ready(int rank) = 0;
  // What this rank enqueues from here on comes after all that its peers were ready with.
  virtual void Follow(int rank) = 0;
  // Elements [begin, end) of all ranks' buffers, reduced in fp32 in the order of ranks, into all of
  // them. `buffers` by rank.
  virtual void Reduce(int rank, absl::Span<void* const> buffers, DType dtype, int64_t begin,
                      int64_t end, Reduction reduction) = 0;
  virtual void Copy(int rank, void* to, const void* from, int64_t bytes) = 0;
};

}  // namespace winnow
