#pragma once

#include <cstdint>
#include <limits>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/deadline.h"
#include "kernels/types.h"

namespace winnow {

// Collectives of one rank of a group. Every rank calls the same ones in the same order, from its
// own thread, with equal counts. Buffers are device memory of the rank's backend; results are the
// same bits on every rank (reduced in rank order). A call returns DEADLINE_EXCEEDED when a peer is
// late, ABORTED (with the first reason) once anyone called Abort; after either the group must be
// Reset by its owner before it works again.
class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;

  virtual absl::Status AllReduceSum(void* data, DType dtype, int64_t count, Deadline deadline) = 0;
  // Starts an all-reduce that overlaps with compute. The all-reduce only moves the addends; whoever
  // reads the result adds them. It begins when all work enqueued before BeginSum is done; work
  // enqueued later does not wait until JoinSum, which returns the addends. Every BeginSum needs one
  // JoinSum, in the same order, with at most kMaxBegunSums begun at a time. `data` and `inbox`
  // belong to the sum until it is joined, and their readers must be enqueued before the next
  // BeginSum that uses them. Communicators that cannot overlap make BeginSum an AllReduceSum.
  static constexpr int kMaxBegunSums = 2;
  struct Sum {
    void* data = nullptr;
    void* inbox = nullptr;  // [size − 1][count], where peers put theirs
    DType dtype = DType::kF32;
    int64_t count = 0;
  };
  virtual absl::Status BeginSum(const Sum& sum, Deadline deadline) {
    return AllReduceSum(sum.data, sum.dtype, sum.count, deadline);
  }
  virtual absl::StatusOr<Addends> JoinSum(const Sum& sum, Deadline) { return Addends(sum.data); }
  // The smallest sum for which overlap is worth its cost.
  static constexpr int64_t kNeverOverlapped = std::numeric_limits<int64_t>::max();
  virtual int64_t min_overlap_elements() const { return kNeverOverlapped; }
  virtual absl::Status AllReduceMax(float* data, int64_t count, Deadline deadline) = 0;
  // out: [size][bytes].
  virtual absl::Status AllGather(const void* in, void* out, int64_t bytes, Deadline deadline) = 0;

  // Wakes every rank that waits. Thread-safe, from any thread.
  virtual void Abort(const absl::Status& reason) = 0;
};

// The ranks' ends of one group, which it owns.
class CommunicatorGroup {
 public:
  virtual ~CommunicatorGroup() = default;
  // Lives as long as the group.
  virtual Communicator& communicator(int rank) = 0;
  // Begins anew after an abort or a missed deadline. REQUIRES: no rank is inside a collective.
  virtual absl::Status Reset() = 0;
};

}  // namespace winnow
