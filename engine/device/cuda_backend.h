#pragma once

#include <array>
#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine/device/backend.h"
#include "engine/device/cuda_fence.h"
#include "engine/device/pinned_pool.h"
#include "kernels/cublas_matmul.h"

namespace winnow {

// A GPU. The queue is one stream; copies out of the device have a second, which waits for the queue
// and is waited for only by what frees memory; what must be done at once has a third. Device memory
// comes from CUDA's pool in the queue's order and stays there, pinned memory is kept for reuse.
// Errors of calls and kernels are kept, the first of them, and every event recorded afterwards
// reports it.
class CudaBackend final : public Backend {
 public:
  struct Options {
    int device = 0;
    ModelTypes types = DType::kBf16;
  };
  // UNAVAILABLE: no driver, or no such GPU. RESOURCE_EXHAUSTED: no memory.
  static absl::StatusOr<std::unique_ptr<CudaBackend>> Create(const Options& options);
  ~CudaBackend() override;

  std::string name() const override { return "cuda"; }
  ModelTypes types() const override { return options_.types; }
  CudaStream stream() const { return stream_; }
  // Milliseconds that each kind of op took since it was switched on; waits for the queue.
  void TimeOps(bool on) { time_ops_ = on; }
  std::map<std::string, double> TakeOpTimes();
  // How often the host has waited for all that was enqueued.
  int64_t num_drains() const { return state_->num_drains; }

  absl::StatusOr<Buffer> Allocate(size_t bytes) override;
  absl::StatusOr<Buffer> AllocateHost(size_t bytes) override;
  void Copy(void* to, const void* from, size_t bytes) override;
  void Fill(float* to, float value, int64_t count) override;
  EventPtr Record() override;
  MomentPtr Mark() override;
  absl::Status Health() const override { return state_->Error(); }
  int64_t FreeBytes() const override;  // of the GPU, and unused in the pool
  void CopyOut(void* to, const void* from, size_t bytes) override;
  void GatherRowsOut(const GatherRowsParams& params, void* workspace) override;
  EventPtr RecordOut() override;
  void WriteNow(void* to, size_t to_stride, const void* from, size_t from_stride, size_t width,
                size_t rows) override;
  void ZeroNow(void* at, size_t bytes) override;

  // The first call of a key runs as it is, so that libraries load what they need; the second is
  // recorded as a graph.
  absl::Status Replay(int64_t key, const std::function<absl::Status()>& enqueue) override;

  absl::StatusOr<std::unique_ptr<PackedWeight>> Pack(const MatmulWeight& weight) override;
  void Matmul(const PackedWeight& weight, const MatmulParams& params) override;
  void RmsNorm(const RmsNormParams& params) override;
  void Rope(const RopeParams& params) override;
  void StoreKv(const StoreKvParams& params) override;
  void MatmulRope(const PackedWeight& weight, const MatmulParams& params,
                  const RopeParams& rope) override;
  void MatmulStoreKv(const PackedWeight& weight, const MatmulParams& params,
                     const StoreKvParams& store) override;
  void GatedAct(const GatedActParams& params) override;
  void GatedMatmul(const PackedWeight& weight, const GatedMatmulParams& params,
                   void* workspace) override;
  int64_t WorkspaceBytes(const PackedWeight& weight,
                         const GatedMatmulParams& params) const override;
  void Embedding(const EmbeddingParams& params) override;
  void Attention(const AttentionParams& params) override;
  void PagedAttention(const PagedAttentionParams& params, void* workspace) override;
  int64_t WorkspaceBytes(const PagedAttentionParams& params) const override;
  void PagedStoreKv(const PagedStoreKvParams& params) override;
  void GatherWindow(const GatherWindowParams& params) override;
  void WindowScores(const WindowScoresParams& params, void* workspace) override;
  int64_t WorkspaceBytes(const WindowScoresParams& params) const override;
  void MaxScores(const MaxScoresParams& params) override;
  void SelectTokens(const SelectTokensParams& params) override;
  void GatherRows(const GatherRowsParams& params) override;
  void ArgMax(const ArgMaxParams& params) override;

 private:
  // Shared with events and buffers.
  struct State {
    std::mutex mutex;
    absl::Status first_error;
    std::atomic<int64_t> num_enqueued{0}, num_drains{0};
    std::atomic<bool> copies_run{false};  // copies out that freeing must wait for
    void Keep(const std::string& text);
    absl::Status Error();
  };
  struct TimedOp {
    const char* what;
    MomentPtr begin, end;
  };
  class CudaEvent;
  class CudaMoment;

  explicit CudaBackend(const Options& options) : options_(options) {}
  absl::Status CreateStreams();
  // A product and a rotation, which one kernel does where that is faster.
  template <typename Rotation>
  bool TryRotatedMatmul(const PackedWeight& weight, const MatmulParams& params,
                        const Rotation& rotation);
  // Whether one kernel does the product and the gated activation.
  bool IsOneStep(const PackedWeight& weight, const GatedMatmulParams& params) const;
  void Use() const;  // makes the device this thread's
  // Runs `launch`, which enqueues, and keeps the error of what was launched since the last look.
  template <typename Launcher>
  void Launch(const char* what, Launcher&& launch);
  void Check(const char* what);
  // The copying stream waits for what the queue holds now.
  void FollowQueue();

  const Options options_;
  bool is_hopper_ = false;
  CudaStream stream_ = nullptr, out_stream_ = nullptr, now_stream_ = nullptr;
  // What WriteNow borrows: a stream, and pinned memory through which data of any thread's passes.
  struct WriteLane {
    std::mutex mutex;
    CudaStream stream = nullptr;
    Buffer pinned;
  };
  std::array<WriteLane, 8> write_lanes_;
  std::atomic<size_t> next_write_lane_{0};
  CudaFence queue_fence_{options_.device}, out_fence_{options_.device};
  bool queue_moved_ = true;  // since FollowQueue
  std::unique_ptr<CublasMatmul> matmul_;
  std::map<int64_t, void*> graphs_;  // cudaGraphExec_t by key; null: ran once
  // Copied, by the last two GatherRowsOut.
  std::array<CudaFence, 2> gathered_out_{CudaFence(options_.device), CudaFence(options_.device)};
  size_t next_gathered_out_ = 0;
  bool time_ops_ = false;
  std::vector<TimedOp> timed_ops_;
  std::shared_ptr<PinnedPool> pinned_ = std::make_shared<PinnedPool>();
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

template <typename Launcher>
void CudaBackend::Launch(const char* what, Launcher&& launch) {
  Use();
  if (time_ops_) timed_ops_.push_back({.what = what, .begin = Mark()});
  launch();
  if (time_ops_) timed_ops_.back().end = Mark();
  queue_moved_ = true;
  ++state_->num_enqueued;
  Check(what);
}

// Number of GPUs that can be used here; 0 without a driver.
int NumCudaDevices();

}  // namespace winnow
