#include "engine/device/cpu_backend.h"

#include <omp.h>

#include "absl/strings/str_cat.h"

namespace winnow {
namespace {

// A parallel region costs 5–10 µs when its threads are awake and much more when they share cores
// with other processes; a core does 100 MFLOP in half a millisecond.
constexpr double kMinParallelFlop = 10e6;
constexpr double kManyFlop = 1e18;  // ops that decide for themselves, by rows

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

void CpuBackend::UseThreads(double flop) const {
  const int threads = flop < kMinParallelFlop ? 1 : num_threads_;
  if (omp_get_max_threads() != threads) omp_set_num_threads(threads);
}

absl::StatusOr<std::unique_ptr<PackedWeight>> CpuBackend::Pack(const MatmulWeight& weight) {
  if (weight.dtype == DType::kBf16 && !CpuHasBf16()) {
    return absl::FailedPreconditionError(
        "cpu: this processor has no bf16 instructions (avx512_bf16 or AMX); use f32");
  }
  UseThreads(kManyFlop);
  return std::make_unique<CpuWeight>(weight);
}

void CpuBackend::Matmul(const PackedWeight& weight, const MatmulParams& params) {
  UseThreads(2.0 * params.rows * weight.in_features() * weight.out_features());
  static_cast<const CpuWeight&>(weight).Run(params);
}

void CpuBackend::RmsNorm(const RmsNormParams& params) { UseThreads(kManyFlop), RmsNormCpu(params); }
void CpuBackend::Rope(const RopeParams& params) { UseThreads(kManyFlop), RopeCpu(params); }
void CpuBackend::StoreKv(const StoreKvParams& params) { UseThreads(kManyFlop), StoreKvCpu(params); }
void CpuBackend::GatedAct(const GatedActParams& params) {
  UseThreads(kManyFlop), GatedActCpu(params);
}
void CpuBackend::Embedding(const EmbeddingParams& params) {
  UseThreads(kManyFlop), EmbeddingCpu(params);
}
void CpuBackend::Attention(const AttentionParams& params) {
  UseThreads(4.0 * params.rows * params.capacity * params.q_heads * params.head_dim);
  AttentionCpu(params);
}
void CpuBackend::PagedAttention(const PagedAttentionParams& params, void*) {
  double entries = 0;
  for (int64_t i = 0; i < params.batch; ++i) entries += params.lengths[i];
  UseThreads(4.0 * entries * params.q_heads * params.head_dim);
  PagedAttentionCpu(params);
}
void CpuBackend::PagedStoreKv(const PagedStoreKvParams& params) {
  UseThreads(kManyFlop), PagedStoreKvCpu(params);
}
void CpuBackend::GatherWindow(const GatherWindowParams& params) {
  UseThreads(kManyFlop), GatherWindowCpu(params);
}
void CpuBackend::WindowScores(const WindowScoresParams& params, void*) {
  UseThreads(kManyFlop), WindowScoresCpu(params);
}
void CpuBackend::MaxScores(const MaxScoresParams& params) {
  UseThreads(kManyFlop), MaxScoresCpu(params);
}
void CpuBackend::SelectTokens(const SelectTokensParams& params) {
  UseThreads(kManyFlop), SelectTokensCpu(params);
}
void CpuBackend::GatherRows(const GatherRowsParams& params) {
  UseThreads(kManyFlop), GatherRowsCpu(params);
}
void CpuBackend::ArgMax(const ArgMaxParams& params) { UseThreads(kManyFlop), ArgMaxCpu(params); }

}  // namespace winnow
