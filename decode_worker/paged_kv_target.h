#pragma once

#include "engine/kv/paged_kv.h"
#include "transfer/kv_target.h"

namespace winnow {

// Received KV goes into the decode engine's blocks. Positions were checked by the receiver and are
// not needed any more: K carries them in its rotation. The memory must outlive the target.
class PagedKvTarget final : public KvTarget {
 public:
  explicit PagedKvTarget(PagedKv& kv) : kv_(kv) {}

  absl::StatusOr<int64_t> Reserve(const KvPlan& plan, int64_t extra_tokens) override {
    return kv_.Reserve(plan, extra_tokens);
  }
  void Write(int64_t handle, const ChunkHeader& header, const std::byte* payload) override {
    if (header.kind == ChunkKind::kPositions) return;
    kv_.Write(handle, static_cast<int>(header.layer), header.kind == ChunkKind::kValues,
              static_cast<int>(header.head), header.slot_begin, header.slot_count, payload);
  }
  void Free(int64_t handle) override { kv_.Free(handle); }
  Blocks blocks() const override { return {kv_.total_blocks(), kv_.free_blocks()}; }

 private:
  PagedKv& kv_;
};

}  // namespace winnow
