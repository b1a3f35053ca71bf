#include "engine/device/cuda_backend.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace winnow {
namespace {

constexpr int kLeastCapability = 8;          // that cmake/Cuda.cmake compiles for
constexpr size_t kWriteLaneBytes = 1 << 20;  // a chunk of the handoff

absl::Status MemoryError(const char* kind, size_t bytes, cudaError_t error) {
  return absl::ResourceExhaustedError(
      absl::StrCat("CUDA: no ", bytes, " bytes of ", kind, " memory: ", cudaGetErrorString(error)));
}

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

absl::StatusOr<std::unique_ptr<CudaBackend>> CudaBackend::Create(const Options& options) {
  const int devices = NumCudaDevices();
  if (options.device >= devices) {
    return absl::UnavailableError(
        absl::StrCat("CUDA: no GPU number ", options.device, ", there are ", devices));
  }
  auto backend = std::unique_ptr<CudaBackend>(new CudaBackend(options));
  WINNOW_RETURN_IF_ERROR(backend->CreateStreams());
  int major = 0;
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, options.device);
  if (major < kLeastCapability) {
    return absl::UnavailableError(absl::StrCat("CUDA: GPU ", options.device,
                                               " has compute capability ", major,
                                               ".x, needs at least ", kLeastCapability, ".0"));
  }
  backend->is_hopper_ = major == 9;
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
  for (WriteLane& lane : write_lanes_) {
    WINNOW_ASSIGN_OR_RETURN(lane.pinned, pinned_->Allocate(kWriteLaneBytes));
    if (error == cudaSuccess) {
      error = cudaStreamCreateWithFlags(&lane.stream, cudaStreamNonBlocking);
    }
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
  for (const auto& [key, graph] : graphs_) {
    if (graph != nullptr) cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph));
  }
  matmul_.reset();
  for (WriteLane& lane : write_lanes_) {
    if (lane.stream != nullptr) cudaStreamDestroy(lane.stream);
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

std::map<std::string, double> CudaBackend::TakeOpTimes() {
  Use();
  cudaStreamSynchronize(stream_);
  std::map<std::string, double> times;
  for (const TimedOp& op : timed_ops_) times[op.what] += 1e3 * op.end->SecondsSince(*op.begin);
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
      out_fence_.Record(out_stream_);
      out_fence_.HoldBack(stream_);
    }
    cudaFreeAsync(p, stream_);
  });
}

absl::StatusOr<Buffer> CudaBackend::AllocateHost(size_t bytes) {
  Use();
  return pinned_->Allocate(bytes);
}

void CudaBackend::Copy(void* to, const void* from, size_t bytes) {
  if (bytes == 0) return;
  Launch("copy", [&] { cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream_); });
}

int64_t CudaBackend::FreeBytes() const {
  Use();
  size_t free = 0, total = 0;
  uint64_t reserved = 0, used = 0;
  cudaMemPool_t pool = nullptr;
  const bool known =
      cudaMemGetInfo(&free, &total) == cudaSuccess &&
      cudaDeviceGetDefaultMemPool(&pool, options_.device) == cudaSuccess &&
      cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReservedMemCurrent, &reserved) == cudaSuccess &&
      cudaMemPoolGetAttribute(pool, cudaMemPoolAttrUsedMemCurrent, &used) == cudaSuccess;
  return known ? static_cast<int64_t>(free + reserved - used) : 0;
}

void CudaBackend::FollowQueue() {
  Use();
  if (!queue_moved_) return;
  queue_fence_.Record(stream_);
  queue_fence_.HoldBack(out_stream_);
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
// are gathered in device memory and copied from there.
void CudaBackend::GatherRowsOut(const GatherRowsParams& params, void* workspace) {
  const size_t bytes = static_cast<size_t>(params.heads) * params.rows * params.row_bytes;
  CudaFence& copied = gathered_out_[next_gathered_out_++ % gathered_out_.size()];
  Use();
  copied.HoldBack(stream_);  // of two calls ago
  GatherRowsParams gather = params;
  gather.out = workspace;
  GatherRows(gather);
  CopyOut(params.out, workspace, bytes);
  copied.Record(out_stream_);
  Check("gather out");
}

// CUDA copies what is not pinned through a little memory of its own, one thread at a time; so this
// does it itself, and side by side.
void CudaBackend::WriteNow(void* to, size_t to_stride, const void* from, size_t from_stride,
                           size_t width, size_t rows) {
  Use();
  WriteLane& lane = write_lanes_[next_write_lane_++ % write_lanes_.size()];
  std::lock_guard<std::mutex> lock(lane.mutex);
  const auto* source = static_cast<const std::byte*>(from);
  auto* target = static_cast<std::byte*>(to);
  const size_t rows_at_once = lane.pinned.bytes() / width;
  if (rows_at_once == 0) {  // one row alone is longer
    cudaMemcpy2DAsync(to, to_stride, from, from_stride, width, rows, cudaMemcpyDefault,
                      lane.stream);
    cudaStreamSynchronize(lane.stream);
  }
  for (size_t row = 0; rows_at_once > 0 && row < rows; row += rows_at_once) {
    const size_t count = std::min(rows_at_once, rows - row);
    for (size_t i = 0; i < count; ++i) {
      std::memcpy(lane.pinned.at(i * width), source + (row + i) * from_stride, width);
    }
    cudaMemcpy2DAsync(target + row * to_stride, to_stride, lane.pinned.data(), width, width, count,
                      cudaMemcpyHostToDevice, lane.stream);
    cudaStreamSynchronize(lane.stream);
  }
  Check("write");
}

void CudaBackend::ZeroNow(void* at, size_t bytes) {
  Use();
  cudaMemsetAsync(at, 0, bytes, now_stream_);
  cudaStreamSynchronize(now_stream_);
  Check("zero");
}

absl::Status CudaBackend::Replay(int64_t key, const std::function<absl::Status()>& enqueue) {
  Use();
  const auto [it, is_new] = graphs_.try_emplace(key, nullptr);
  if (is_new || time_ops_) return enqueue();
  if (it->second == nullptr) {
    cudaGraph_t recorded = nullptr;
    cudaGraphExec_t graph = nullptr;
    // Other threads may allocate and copy meanwhile.
    cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal);
    const absl::Status status = enqueue();
    cudaStreamEndCapture(stream_, &recorded);
    if (status.ok()) cudaGraphInstantiate(&graph, recorded, 0);
    if (recorded != nullptr) cudaGraphDestroy(recorded);
    Check("recording a graph");
    WINNOW_RETURN_IF_ERROR(status);
    it->second = graph;
  }
  Launch("graph", [&] { cudaGraphLaunch(static_cast<cudaGraphExec_t>(it->second), stream_); });
  return absl::OkStatus();
}

}  // namespace winnow
