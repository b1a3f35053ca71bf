#include "engine/device/cpu_backend.h"

#include <omp.h>

#include "absl/strings/str_cat.h"

namespace winnow {
namespace {

class CpuWeight final : public PackedWeight {
 public:
  explicit CpuWeight(const MatmulWeight& weight) : matmul_(weight) {}
  int64_t out_features() const override { return matmul_.out_features(); }
  int64_t in_features() const override { return matmul_.in_features(); }
  // The primitive cache changes under a weight that is logically constant.
  void Run(const MatmulParams& params) const { matmul_.Run(params); }

 private:
  mutable CpuMatmul matmul_;
};

}  // namespace

void CpuBackend::UseThreads() const {
  if (omp_get_max_threads() != num_threads_) omp_set_num_threads(num_threads_);
}

absl::StatusOr<std::unique_ptr<PackedWeight>> CpuBackend::Pack(const MatmulWeight& weight) {
  if (weight.dtype == DType::kBf16 && !CpuHasBf16()) {
    return absl::FailedPreconditionError("cpu: this processor has no bf16 instructions (avx512_bf16 or AMX); use f32");
  }
  UseThreads();
  return std::make_unique<CpuWeight>(weight);
}

void CpuBackend::Matmul(const PackedWeight& weight, const MatmulParams& params) {
  UseThreads();
  static_cast<const CpuWeight&>(weight).Run(params);
}

void CpuBackend::RmsNorm(const RmsNormParams& params) { UseThreads(), RmsNormCpu(params); }
void CpuBackend::Rope(const RopeParams& params) { UseThreads(), RopeCpu(params); }
void CpuBackend::StoreKv(const StoreKvParams& params) { UseThreads(), StoreKvCpu(params); }
void CpuBackend::SiluMul(const SiluMulParams& params) { UseThreads(), SiluMulCpu(params); }
void CpuBackend::Embedding(const EmbeddingParams& params) { UseThreads(), EmbeddingCpu(params); }
void CpuBackend::Attention(const AttentionParams& params) { UseThreads(), AttentionCpu(params); }
void CpuBackend::PagedAttention(const PagedAttentionParams& params) { UseThreads(), PagedAttentionCpu(params); }
void CpuBackend::PagedStoreKv(const PagedStoreKvParams& params) { UseThreads(), PagedStoreKvCpu(params); }
void CpuBackend::GatherWindow(const GatherWindowParams& params) { UseThreads(), GatherWindowCpu(params); }
void CpuBackend::WindowScores(const WindowScoresParams& params) { UseThreads(), WindowScoresCpu(params); }
void CpuBackend::MaxScores(const MaxScoresParams& params) { UseThreads(), MaxScoresCpu(params); }
void CpuBackend::SelectTokens(const SelectTokensParams& params) { UseThreads(), SelectTokensCpu(params); }
void CpuBackend::GatherRows(const GatherRowsParams& params) { UseThreads(), GatherRowsCpu(params); }

}  // namespace winnow
