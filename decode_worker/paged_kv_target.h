#pragma once

#include <functional>
#include <utility>

#include "engine/kv/paged_kv.h"
#include "transfer/kv_target.h"

namespace winnow {

// Received KV goes into the decode engine's blocks. Positions were checked by the receiver and are
// not needed any more: K carries them in its rotation.
class PagedKvTarget final : public KvTarget {
 public:
  // `on_written` hears of K and V bytes that were stored, on the threads that brought them.
  explicit PagedKvTarget(PagedKv& kv, std::function<void(int64_t bytes)> on_written = nullptr)
      : kv_(kv), on_written_(std::move(on_written)) {}

  absl::StatusOr<int64_t> Reserve(const KvPlan& plan, int64_t extra_tokens) override {
    return kv_.Reserve(plan, extra_tokens);
  }
  void Write(int64_t handle, const ChunkHeader& header, const std::byte* payload) override {
    if (header.kind == ChunkKind::kPositions) return;
    kv_.Write(handle, static_cast<int>(header.layer), header.kind == ChunkKind::kValues,
              static_cast<int>(header.head), header.slot_begin, header.slot_count, payload);
    if (on_written_) on_written_(header.payload_bytes);
  }
  void Free(int64_t handle) override { kv_.Free(handle); }

 private:
  PagedKv& kv_;
  const std::function<void(int64_t bytes)> on_written_;
};

}  // namespace winnow
