#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/status/statusor.h"
#include "plan/kv_plan.h"
#include "transfer/kv_chunk.h"

namespace winnow {

// Where received KV goes: the decode worker's paged memory. Thread-safe, except that callers never
// write a slot from two threads at a time and never write to a handle while they free it.
class KvTarget {
 public:
  struct Blocks {
    int64_t total = 0, free = 0;
  };

  virtual ~KvTarget() = default;
  // Exact memory for the plan's entries and `extra_tokens` more per layer. RESOURCE_EXHAUSTED, with
  // numbers.
  virtual absl::StatusOr<int64_t> Reserve(const KvPlan& plan, int64_t extra_tokens) = 0;
  // Copies a run of slots of one KV head. REQUIRES: within the plan.
  virtual void Write(int64_t handle, const ChunkHeader& header, const std::byte* payload) = 0;
  virtual void Free(int64_t handle) = 0;
  virtual Blocks blocks() const = 0;
};

}  // namespace winnow
