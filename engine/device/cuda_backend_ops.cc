// The ops of CudaBackend: each launches its kernel in the queue.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "engine/device/cuda_backend.h"
#include "kernels/fill.h"
#include "kernels/rotated_matmul.h"

namespace winnow {
namespace {

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

void CudaBackend::WindowScores(const WindowScoresParams& params, void* workspace) {
  Launch("window scores", [&] { WindowScoresCuda(params, workspace, stream_); });
}
int64_t CudaBackend::WorkspaceBytes(const WindowScoresParams& params) const {
  return WindowScoresWorkspace(params);
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
template <typename Rotation>
bool CudaBackend::TryRotatedMatmul(const PackedWeight& weight, const MatmulParams& params,
                                   const Rotation& rotation) {
  const MatmulWeight& w = static_cast<const CudaWeight&>(weight).weight();
  const bool pays = is_hopper_ && RotatedMatmulSm90Pays(w, params.rows) &&
                    RotatedMatmulSm90Supports(w, params, rotation);
  if (pays) {
    Launch("rotated matmul", [&] { RotatedMatmulSm90(w, params, rotation, stream_); });
  }
  return pays;
}
void CudaBackend::MatmulRope(const PackedWeight& weight, const MatmulParams& params,
                             const RopeParams& rope) {
  if (!TryRotatedMatmul(weight, params, rope)) Backend::MatmulRope(weight, params, rope);
}
void CudaBackend::MatmulStoreKv(const PackedWeight& weight, const MatmulParams& params,
                                const StoreKvParams& store) {
  if (!TryRotatedMatmul(weight, params, store)) Backend::MatmulStoreKv(weight, params, store);
}
void CudaBackend::GatedAct(const GatedActParams& params) {
  Launch("gated activation", [&] { GatedActCuda(params, stream_); });
}
bool CudaBackend::IsOneStep(const PackedWeight& weight, const GatedMatmulParams& params) const {
  const MatmulWeight& w = static_cast<const CudaWeight&>(weight).weight();
  return is_hopper_ && GatedMatmulSm90Pays(w, params.rows) && GatedMatmulSm90Supports(w, params);
}
void CudaBackend::GatedMatmul(const PackedWeight& weight, const GatedMatmulParams& params,
                              void* workspace) {
  if (!IsOneStep(weight, params)) return Backend::GatedMatmul(weight, params, workspace);
  Launch("gated matmul", [&] {
    GatedMatmulSm90(static_cast<const CudaWeight&>(weight).weight(), params, stream_);
  });
}
int64_t CudaBackend::WorkspaceBytes(const PackedWeight& weight,
                                    const GatedMatmulParams& params) const {
  GatedMatmulParams two_steps = params;
  // Fewer rows may come, which take two.
  if (IsOneStep(weight, params)) {
    two_steps.rows = std::min(params.rows, kGatedMatmulSm90ManyRows - 1);
  }
  return Backend::WorkspaceBytes(weight, two_steps);
}
void CudaBackend::Embedding(const EmbeddingParams& params) {
  Launch("embedding", [&] { EmbeddingCuda(params, stream_); });
}
void CudaBackend::Attention(const AttentionParams& params) {
  Launch("attention", [&] { AttentionCuda(params, stream_); });
}
void CudaBackend::PagedAttention(const PagedAttentionParams& params, void* workspace) {
  Launch("paged attention", [&] { PagedAttentionCuda(params, workspace, stream_); });
}
int64_t CudaBackend::WorkspaceBytes(const PagedAttentionParams& params) const {
  Use();
  return PagedAttentionWorkspace(params);
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
void CudaBackend::ArgMax(const ArgMaxParams& params) {
  Launch("argmax", [&] { ArgMaxCuda(params, stream_); });
}

}  // namespace winnow
