#pragma once

#include <limits>

#include "engine/device/backend.h"

namespace winnow {

// What the host backends share: memory is ordinary memory, and the queue is the caller's thread, so
// that every call is done when it returns and every event is done when it is recorded.
class HostBackend : public Backend {
 public:
  explicit HostBackend(ModelTypes types) : types_(types) {}

  ModelTypes types() const final { return types_; }
  absl::StatusOr<Buffer> Allocate(size_t bytes) final;
  absl::StatusOr<Buffer> AllocateHost(size_t bytes) final { return Allocate(bytes); }
  void Copy(void* to, const void* from, size_t bytes) final;
  void Fill(float* to, float value, int64_t count) final;
  EventPtr Record() override;
  MomentPtr Mark() final;
  int64_t FreeBytes() const override { return std::numeric_limits<int64_t>::max(); }
  void CopyOut(void* to, const void* from, size_t bytes) final { Copy(to, from, bytes); }
  void GatherRowsOut(const GatherRowsParams& params, void*) final { GatherRows(params); }
  EventPtr RecordOut() override { return Record(); }
  void WriteNow(void* to, size_t to_stride, const void* from, size_t from_stride, size_t width,
                size_t rows) final;
  void ZeroNow(void* at, size_t bytes) final;
  int64_t WorkspaceBytes(const PagedAttentionParams&) const final { return 0; }
  int64_t WorkspaceBytes(const WindowScoresParams&) const final { return 0; }

 private:
  const ModelTypes types_;
};

}  // namespace winnow
