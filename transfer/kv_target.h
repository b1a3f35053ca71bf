#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/status/statusor.h"
#include "plan/kv_plan.h"
#include "transfer/kv_chunk.h"

namespace winnow {

// Where received KV goes: the decode worker's paged memory. Thread-safe, but that no slot is
// written twice at a time and nothing is written while its handle is freed.
class KvTarget {
 public:
  virtual ~KvTarget() = default;
  // Exact room for the plan's entries and `extra_tokens` more per layer. RESOURCE_EXHAUSTED, with
  // numbers.
  virtual absl::StatusOr<int64_t> Reserve(const KvPlan& plan, int64_t extra_tokens) = 0;
  // Copies a run of slots of one KV head. REQUIRES: within the plan.
  virtual void Write(int64_t handle, const ChunkHeader& header, const std::byte* payload) = 0;
  virtual void Free(int64_t handle) = 0;
};

}  // namespace winnow
