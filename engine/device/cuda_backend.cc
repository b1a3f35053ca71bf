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

// Headers name events void*, so that they need no CUDA.
cudaEvent_t AsEvent(void* event) { return static_cast<cudaEvent_t>(event); }
cudaEvent_t* AsEvent(void** event) { return reinterpret_cast<cudaEvent_t*>(event); }

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

void CudaBackend::State::Keep(const std::string& text) {
  std::lock_guard<std::mutex> lock(mutex);
  if (first_error.ok()) first_error = absl::InternalError(text);
}

absl::Status CudaBackend::State::Error() {
  std::lock_guard<std::mutex> lock(mutex);
  return first_error;
}

class CudaBackend::CudaEvent final : public Event {
 public:
  CudaEvent(std::shared_ptr<State> state, CudaStream stream) : state_(std::move(state)) {
    cudaError_t error = cudaEventCreateWithFlags(&event_, cudaEventDisableTiming);
    if (error == cudaSuccess) error = cudaEventRecord(event_, stream);
    if (error != cudaSuccess) {
      state_->Keep(absl::StrCat("CUDA: event: ", cudaGetErrorString(error)));
    }
  }
  ~CudaEvent() override {
    if (event_ != nullptr) cudaEventDestroy(event_);
  }

  // Also when it never will be: Wait tells why.
  bool IsDone() const override {
    const cudaError_t state = event_ == nullptr ? cudaErrorInvalidValue : cudaEventQuery(event_);
    if (state == cudaErrorNotReady) return false;
    if (state != cudaSuccess) state_->Keep(absl::StrCat("CUDA: ", cudaGetErrorString(state)));
    return true;
  }
  absl::Status Wait(const Clock& clock, Deadline deadline) override {
    ++state_->num_waits;
    for (int looks = 0; !IsDone(); ++looks) {
      if (deadline.HasPassed(clock)) {
        return absl::DeadlineExceededError("CUDA: the queue was not done in time");
      }
      if (looks > 1000) absl::SleepFor(absl::Microseconds(20));  // the first 1 ms or so it spins
    }
    return state_->Error();
  }

 private:
  const std::shared_ptr<State> state_;
  cudaEvent_t event_ = nullptr;
};

absl::StatusOr<std::unique_ptr<CudaBackend>> CudaBackend::Create(const Options& options) {
  const int devices = NumCudaDevices();
  if (options.device >= devices) {
    return absl::UnavailableError(
        absl::StrCat("CUDA: no GPU number ", options.device, ", there are ", devices));
  }
  auto backend = std::unique_ptr<CudaBackend>(new CudaBackend(options));
  WINNOW_RETURN_IF_ERROR(backend->CreateStreams());
  std::string error;
  backend->matmul_ = std::make_unique<CublasMatmul>(&error);
  if (!error.empty()) return absl::ResourceExhaustedError(error);
  return backend;
}

absl::Status CudaBackend::CreateStreams() {
  Use();
  cudaError_t error = cudaSuccess;
  for (CudaStream* stream : {&stream_, &out_stream_, &now_stream_}) {
    if (error == cudaSuccess) error = cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking);
  }
  for (void** event : {&queue_fence_, &out_fence_, &out_slots_[0].copied, &out_slots_[1].copied}) {
    if (error == cudaSuccess)
      error = cudaEventCreateWithFlags(AsEvent(event), cudaEventDisableTiming);
  }
  // What is freed stays in the pool: a request's memory costs no call into the driver.
  cudaMemPool_t pool = nullptr;
  uint64_t keep_all = UINT64_MAX;
  if (error == cudaSuccess) error = cudaDeviceGetDefaultMemPool(&pool, options_.device);
  if (error == cudaSuccess) {
    error = cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep_all);
  }
  if (error == cudaSuccess) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("CUDA: streams: ", cudaGetErrorString(error)));
}

CudaBackend::~CudaBackend() {
  Use();
  for (const CudaStream stream : {stream_, out_stream_, now_stream_}) {
    if (stream != nullptr) cudaStreamSynchronize(stream);
  }
  matmul_.reset();
  scratch_ = Buffer();
  for (OutSlot& slot : out_slots_) {
    slot.memory = Buffer();
    if (slot.copied != nullptr) cudaEventDestroy(AsEvent(slot.copied));
  }
  for (void* event : {queue_fence_, out_fence_}) {
    if (event != nullptr) cudaEventDestroy(AsEvent(event));
  }
  for (const CudaStream stream : {stream_, out_stream_, now_stream_}) {
    if (stream == nullptr) continue;
    cudaStreamSynchronize(stream);
    cudaStreamDestroy(stream);
  }
}

void CudaBackend::Use() const { cudaSetDevice(options_.device); }

void CudaBackend::Check(const char* what) {
  if (const cudaError_t error = cudaGetLastError(); error != cudaSuccess) {
    state_->Keep(absl::StrCat("CUDA: ", what, ": ", cudaGetErrorString(error)));
  }
}

template <typename Launcher>
void CudaBackend::Launch(const char* what, Launcher&& launch) {
  Use();
  cudaEvent_t begin = nullptr, end = nullptr;
  if (time_ops_) {
    cudaEventCreate(&begin);
    cudaEventCreate(&end);
    cudaEventRecord(begin, stream_);
  }
  launch();
  if (time_ops_) {
    cudaEventRecord(end, stream_);
    timed_ops_.push_back({what, begin, end});
  }
  queue_moved_ = true;
  Check(what);
}

std::map<std::string, double> CudaBackend::TakeOpTimes() {
  Use();
  cudaStreamSynchronize(stream_);
  std::map<std::string, double> times;
  for (const TimedOp& op : timed_ops_) {
    float ms = 0;
    cudaEventElapsedTime(&ms, AsEvent(op.begin), AsEvent(op.end));
    times[op.what] += ms;
    cudaEventDestroy(AsEvent(op.begin));
    cudaEventDestroy(AsEvent(op.end));
  }
  timed_ops_.clear();
  Check("timing");
  return times;
}

absl::StatusOr<Buffer> CudaBackend::Allocate(size_t bytes) {
  Use();
  void* data = nullptr;
  if (const cudaError_t error = cudaMallocAsync(&data, std::max<size_t>(bytes, 1), stream_);
      error != cudaSuccess) {
    cudaGetLastError();
    return MemoryError("device", bytes, error);
  }
  // Freed in the queue's order, and after the copies out that may read it.
  return Buffer(data, bytes, [this, state = state_](void* p) {
    Use();
    if (state->copies_run.exchange(false)) {
      cudaEventRecord(AsEvent(out_fence_), out_stream_);
      cudaStreamWaitEvent(stream_, AsEvent(out_fence_));
    }
    cudaFreeAsync(p, stream_);
  });
}

absl::StatusOr<Buffer> CudaBackend::AllocateHost(size_t bytes) {
  Use();
  return pinned_->Allocate(bytes);
}

bool CudaBackend::Grow(Buffer& buffer, size_t bytes) {
  if (buffer.bytes() >= bytes) return true;
  buffer = Buffer();
  absl::StatusOr<Buffer> grown = Allocate(bytes);
  if (!grown.ok()) {
    state_->Keep(std::string(grown.status().message()));
    return false;
  }
  buffer = *std::move(grown);
  return true;
}

void CudaBackend::Copy(void* to, const void* from, size_t bytes) {
  if (bytes == 0) return;
  Launch("copy", [&] { cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream_); });
}

EventPtr CudaBackend::Record() {
  Use();
  return std::make_shared<CudaEvent>(state_, stream_);
}

void CudaBackend::FollowQueue() {
  Use();
  if (!queue_moved_) return;
  cudaEventRecord(AsEvent(queue_fence_), stream_);
  cudaStreamWaitEvent(out_stream_, AsEvent(queue_fence_));
  queue_moved_ = false;
}

void CudaBackend::CopyOut(void* to, const void* from, size_t bytes) {
  if (bytes == 0) return;
  FollowQueue();
  cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, out_stream_);
  state_->copies_run = true;
  Check("copy out");
}

// Writing to the host from a kernel would hold processors for as long as PCIe takes, so the rows
// are gathered in device memory and copied from there, in turns between two places.
void CudaBackend::GatherRowsOut(const GatherRowsParams& params) {
  OutSlot& slot = out_slots_[next_out_slot_++ % out_slots_.size()];
  const size_t bytes = static_cast<size_t>(params.heads) * params.rows * params.row_bytes;
  Use();
  cudaStreamWaitEvent(stream_, AsEvent(slot.copied));  // of two calls ago
  if (!Grow(slot.memory, bytes)) return;
  GatherRowsParams gather = params;
  gather.out = slot.memory.data();
  GatherRows(gather);
  CopyOut(params.out, slot.memory.data(), bytes);
  cudaEventRecord(AsEvent(slot.copied), out_stream_);
  Check("gather out");
}

EventPtr CudaBackend::RecordOut() {
  FollowQueue();
  return std::make_shared<CudaEvent>(state_, out_stream_);
}

void CudaBackend::WriteNow(void* to, size_t to_stride, const void* from, size_t from_stride,
                           size_t width, size_t rows) {
  Use();
  cudaMemcpy2DAsync(to, to_stride, from, from_stride, width, rows, cudaMemcpyDefault, now_stream_);
  cudaStreamSynchronize(now_stream_);
  Check("write");
}

void CudaBackend::ZeroNow(void* at, size_t bytes) {
  Use();
  cudaMemsetAsync(at, 0, bytes, now_stream_);
  cudaStreamSynchronize(now_stream_);
  Check("zero");
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
  Launch("matmul", [&] {
    const std::string error =
        matmul_->Run(static_cast<const CudaWeight&>(weight).weight(), params, stream_);
    if (!error.empty()) state_->Keep(error);
  });
}

void CudaBackend::WindowScores(const WindowScoresParams& params) {
  if (!Grow(scratch_, static_cast<size_t>(WindowScoresWorkspace(params)))) return;
  Launch("window scores", [&] { WindowScoresCuda(params, scratch_.data(), stream_); });
}

void CudaBackend::Fill(float* to, float value, int64_t count) {
  Launch("fill", [&] { FillCuda(to, value, count, stream_); });
}
void CudaBackend::RmsNorm(const RmsNormParams& params) {
  Launch("RMS norm", [&] { RmsNormCuda(params, stream_); });
}
void CudaBackend::Rope(const RopeParams& params) {
  Launch("RoPE", [&] { RopeCuda(params, stream_); });
}
void CudaBackend::StoreKv(const StoreKvParams& params) {
  Launch("KV store", [&] { StoreKvCuda(params, stream_); });
}
void CudaBackend::SiluMul(const SiluMulParams& params) {
  Launch("SwiGLU", [&] { SiluMulCuda(params, stream_); });
}
void CudaBackend::Embedding(const EmbeddingParams& params) {
  Launch("embedding", [&] { EmbeddingCuda(params, stream_); });
}
void CudaBackend::Attention(const AttentionParams& params) {
  Launch("attention", [&] { AttentionCuda(params, stream_); });
}
void CudaBackend::PagedAttention(const PagedAttentionParams& params) {
  Launch("paged attention", [&] { PagedAttentionCuda(params, stream_); });
}
void CudaBackend::PagedStoreKv(const PagedStoreKvParams& params) {
  Launch("paged KV store", [&] { PagedStoreKvCuda(params, stream_); });
}
void CudaBackend::GatherWindow(const GatherWindowParams& params) {
  Launch("window gather", [&] { GatherWindowCuda(params, stream_); });
}
void CudaBackend::MaxScores(const MaxScoresParams& params) {
  Launch("maximum of scores", [&] { MaxScoresCuda(params, stream_); });
}
void CudaBackend::SelectTokens(const SelectTokensParams& params) {
  Launch("selection", [&] { SelectTokensCuda(params, stream_); });
}
void CudaBackend::GatherRows(const GatherRowsParams& params) {
  Launch("gather", [&] { GatherRowsCuda(params, stream_); });
}

}  // namespace winnow
