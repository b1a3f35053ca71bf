#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "engine/device/backend.h"
#include "kernels/cublas_matmul.h"

namespace winnow {

// A GPU: one stream, in order. Errors of calls and kernels are kept, the first of them, and every
// event recorded afterwards reports it.
class CudaBackend final : public Backend {
 public:
  struct Options {
    int device = 0;
    DType dtype = DType::kBf16;
  };
  // UNAVAILABLE: no driver, or no such GPU. RESOURCE_EXHAUSTED: no memory.
  static absl::StatusOr<std::unique_ptr<CudaBackend>> Create(const Options& options);
  ~CudaBackend() override;

  std::string name() const override { return "cuda"; }
  DType dtype() const override { return options_.dtype; }
  CudaStream stream() const { return stream_; }

  absl::StatusOr<Buffer> Allocate(size_t bytes) override;
  absl::StatusOr<Buffer> AllocateHost(size_t bytes) override;
  void Copy(void* to, const void* from, size_t bytes) override;
  void Fill(float* to, float value, int64_t count) override;
  EventPtr Record() override;

  absl::StatusOr<std::unique_ptr<PackedWeight>> Pack(const MatmulWeight& weight) override;
  void Matmul(const PackedWeight& weight, const MatmulParams& params) override;
  void RmsNorm(const RmsNormParams& params) override;
  void Rope(const RopeParams& params) override;
  void StoreKv(const StoreKvParams& params) override;
  void SiluMul(const SiluMulParams& params) override;
  void Embedding(const EmbeddingParams& params) override;
  void Attention(const AttentionParams& params) override;
  void PagedAttention(const PagedAttentionParams& params) override;
  void PagedStoreKv(const PagedStoreKvParams& params) override;
  void GatherWindow(const GatherWindowParams& params) override;
  void WindowScores(const WindowScoresParams& params) override;
  void MaxScores(const MaxScoresParams& params) override;
  void SelectTokens(const SelectTokensParams& params) override;
  void GatherRows(const GatherRowsParams& params) override;

 private:
  // The first error, shared with events.
  struct Errors {
    std::mutex mutex;
    absl::Status first;
    void Keep(const std::string& text);
    absl::Status Get();
  };
  class CudaEvent;

  explicit CudaBackend(const Options& options) : options_(options) {}
  void Use() const;  // makes the device this thread's
  // Keeps the error of the launches since the last look.
  void Check(const char* what);

  const Options options_;
  CudaStream stream_ = nullptr;
  std::unique_ptr<CublasMatmul> matmul_;
  Buffer scratch_;  // of WindowScores; grows
  std::shared_ptr<Errors> errors_ = std::make_shared<Errors>();
};

// Number of GPUs that can be used here; 0 without a driver.
int NumCudaDevices();

}  // namespace winnow
