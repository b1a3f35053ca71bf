#include "engine/device/cuda_backend.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status_macros.h"
#include "kernels/fill.h"

namespace winnow {
namespace {

absl::Status MemoryError(const char* kind, size_t bytes, cudaError_t error) {
  return absl::ResourceExhaustedError(
      absl::StrCat("CUDA: no ", bytes, " bytes of ", kind, " memory: ", cudaGetErrorString(error)));
}

class CudaWeight final : public PackedWeight {
 public:
  CudaWeight(Buffer data, const MatmulWeight& weight) : data_(std::move(data)), weight_(weight) {
    weight_.data = data_.data();
  }
  int64_t out_features() const override { return weight_.out_features; }
  int64_t in_features() const override { return weight_.in_features; }
  const MatmulWeight& weight() const { return weight_; }

 private:
  Buffer data_;
  MatmulWeight weight_;
};

}  // namespace

int NumCudaDevices() {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  cudaGetLastError();  // no driver is no error here
  return 0;
}

void CudaBackend::Errors::Keep(const std::string& text) {
  std::lock_guard<std::mutex> lock(mutex);
  if (first.ok()) first = absl::InternalError(text);
}

absl::Status CudaBackend::Errors::Get() {
  std::lock_guard<std::mutex> lock(mutex);
  return first;
}

class CudaBackend::CudaEvent final : public Event {
 public:
  CudaEvent(std::shared_ptr<Errors> errors, CudaStream stream) : errors_(std::move(errors)) {
    cudaError_t error = cudaEventCreateWithFlags(&event_, cudaEventDisableTiming);
    if (error == cudaSuccess) error = cudaEventRecord(event_, stream);
    if (error != cudaSuccess) {
      errors_->Keep(absl::StrCat("CUDA: event: ", cudaGetErrorString(error)));
    }
  }
  ~CudaEvent() override {
    if (event_ != nullptr) cudaEventDestroy(event_);
  }

  // Also when it never will be: Wait tells why.
  bool IsDone() const override {
    const cudaError_t state = event_ == nullptr ? cudaErrorInvalidValue : cudaEventQuery(event_);
    if (state == cudaErrorNotReady) return false;
    if (state != cudaSuccess) errors_->Keep(absl::StrCat("CUDA: ", cudaGetErrorString(state)));
    return true;
  }
  absl::Status Wait(const Clock& clock, Deadline deadline) override {
    for (int looks = 0; !IsDone(); ++looks) {
      if (deadline.HasPassed(clock)) {
        return absl::DeadlineExceededError("CUDA: the queue was not done in time");
      }
      if (looks > 1000) absl::SleepFor(absl::Microseconds(20));  // the first 1 ms or so it spins
    }
    return errors_->Get();
  }

 private:
  const std::shared_ptr<Errors> errors_;
  cudaEvent_t event_ = nullptr;
};

absl::StatusOr<std::unique_ptr<CudaBackend>> CudaBackend::Create(const Options& options) {
  const int devices = NumCudaDevices();
  if (options.device >= devices) {
    return absl::UnavailableError(
        absl::StrCat("CUDA: no GPU number ", options.device, ", there are ", devices));
  }
  auto backend = std::unique_ptr<CudaBackend>(new CudaBackend(options));
  backend->Use();
  if (const cudaError_t error = cudaStreamCreateWithFlags(&backend->stream_, cudaStreamNonBlocking);
      error != cudaSuccess) {
    return absl::UnavailableError(absl::StrCat("CUDA: stream: ", cudaGetErrorString(error)));
  }
  std::string error;
  backend->matmul_ = std::make_unique<CublasMatmul>(&error);
  if (!error.empty()) return absl::ResourceExhaustedError(error);
  return backend;
}

CudaBackend::~CudaBackend() {
  Use();
  if (stream_ == nullptr) return;
  cudaStreamSynchronize(stream_);
  matmul_.reset();
  scratch_ = Buffer();
  cudaStreamDestroy(stream_);
}

void CudaBackend::Use() const { cudaSetDevice(options_.device); }

void CudaBackend::Check(const char* what) {
  if (const cudaError_t error = cudaGetLastError(); error != cudaSuccess) {
    errors_->Keep(absl::StrCat("CUDA: ", what, ": ", cudaGetErrorString(error)));
  }
}

absl::StatusOr<Buffer> CudaBackend::Allocate(size_t bytes) {
  Use();
  void* data = nullptr;
  if (const cudaError_t error = cudaMalloc(&data, std::max<size_t>(bytes, 1));
      error != cudaSuccess) {
    cudaGetLastError();
    return MemoryError("device", bytes, error);
  }
  return Buffer(data, bytes, [](void* p) { cudaFree(p); });
}

absl::StatusOr<Buffer> CudaBackend::AllocateHost(size_t bytes) {
  Use();
  void* data = nullptr;
  if (const cudaError_t error = cudaMallocHost(&data, std::max<size_t>(bytes, 1));
      error != cudaSuccess) {
    cudaGetLastError();
    return MemoryError("pinned host", bytes, error);
  }
  return Buffer(data, bytes, [](void* p) { cudaFreeHost(p); });
}

void CudaBackend::Copy(void* to, const void* from, size_t bytes) {
  Use();
  if (bytes > 0) cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream_);
  Check("copy");
}

EventPtr CudaBackend::Record() {
  Use();
  return std::make_shared<CudaEvent>(errors_, stream_);
}

absl::StatusOr<std::unique_ptr<PackedWeight>> CudaBackend::Pack(const MatmulWeight& weight) {
  const size_t bytes =
      static_cast<size_t>(weight.out_features) * weight.in_features * ElementSize(weight.dtype);
  WINNOW_ASSIGN_OR_RETURN(Buffer data, Allocate(bytes));
  Use();
  cudaMemcpyAsync(data.data(), weight.data, bytes, cudaMemcpyDefault, stream_);
  if (const cudaError_t error = cudaStreamSynchronize(stream_); error != cudaSuccess) {
    return absl::InternalError(absl::StrCat("CUDA: upload: ", cudaGetErrorString(error)));
  }
  return std::make_unique<CudaWeight>(std::move(data), weight);
}

void CudaBackend::Matmul(const PackedWeight& weight, const MatmulParams& params) {
  Use();
  const std::string error =
      matmul_->Run(static_cast<const CudaWeight&>(weight).weight(), params, stream_);
  if (!error.empty()) errors_->Keep(error);
  Check("matmul");
}

void CudaBackend::WindowScores(const WindowScoresParams& params) {
  Use();
  const auto wanted = static_cast<size_t>(WindowScoresWorkspace(params));
  if (scratch_.bytes() < wanted) {
    scratch_ = Buffer();  // freeing waits for the kernels that use it
    absl::StatusOr<Buffer> grown = Allocate(wanted);
    if (!grown.ok()) {
      errors_->Keep(std::string(grown.status().message()));
      return;
    }
    scratch_ = *std::move(grown);
  }
  WindowScoresCuda(params, scratch_.data(), stream_);
  Check("window scores");
}

void CudaBackend::Fill(float* to, float value, int64_t count) {
  Use();
  FillCuda(to, value, count, stream_);
  Check("fill");
}
void CudaBackend::RmsNorm(const RmsNormParams& params) {
  Use();
  RmsNormCuda(params, stream_);
  Check("RMS norm");
}
void CudaBackend::Rope(const RopeParams& params) {
  Use();
  RopeCuda(params, stream_);
  Check("RoPE");
}
void CudaBackend::StoreKv(const StoreKvParams& params) {
  Use();
  StoreKvCuda(params, stream_);
  Check("KV store");
}
void CudaBackend::SiluMul(const SiluMulParams& params) {
  Use();
  SiluMulCuda(params, stream_);
  Check("SwiGLU");
}
void CudaBackend::Embedding(const EmbeddingParams& params) {
  Use();
  EmbeddingCuda(params, stream_);
  Check("embedding");
}
void CudaBackend::Attention(const AttentionParams& params) {
  Use();
  AttentionCuda(params, stream_);
  Check("attention");
}
void CudaBackend::PagedAttention(const PagedAttentionParams& params) {
  Use();
  PagedAttentionCuda(params, stream_);
  Check("paged attention");
}
void CudaBackend::PagedStoreKv(const PagedStoreKvParams& params) {
  Use();
  PagedStoreKvCuda(params, stream_);
  Check("paged KV store");
}
void CudaBackend::GatherWindow(const GatherWindowParams& params) {
  Use();
  GatherWindowCuda(params, stream_);
  Check("window gather");
}
void CudaBackend::MaxScores(const MaxScoresParams& params) {
  Use();
  MaxScoresCuda(params, stream_);
  Check("maximum of scores");
}
void CudaBackend::SelectTokens(const SelectTokensParams& params) {
  Use();
  SelectTokensCuda(params, stream_);
  Check("selection");
}
void CudaBackend::GatherRows(const GatherRowsParams& params) {
  Use();
  GatherRowsCuda(params, stream_);
  Check("gather");
}

}  // namespace winnow
