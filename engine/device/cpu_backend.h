#pragma once

#include "engine/device/host_backend.h"

namespace winnow {

// The CPU: oneDNN matmuls with packed weights and the fast *_cpu ops. The thread that calls is the
// queue; its OpenMP team has num_threads threads.
class CpuBackend final : public HostBackend {
 public:
  struct Options {
    ModelTypes types;
    int num_threads = 1;
  };
  explicit CpuBackend(Options options)
      : HostBackend(options.types), num_threads_(options.num_threads) {}

  std::string name() const override { return "cpu"; }
  absl::StatusOr<std::unique_ptr<PackedWeight>> Pack(const MatmulWeight& weight) override;
  void Matmul(const PackedWeight& weight, const MatmulParams& params) override;
  void RmsNorm(const RmsNormParams& params) override;
  void Rope(const RopeParams& params) override;
  void StoreKv(const StoreKvParams& params) override;
  void GatedAct(const GatedActParams& params) override;
  void Embedding(const EmbeddingParams& params) override;
  void Attention(const AttentionParams& params) override;
  void PagedAttention(const PagedAttentionParams& params, void*) override;
  void PagedStoreKv(const PagedStoreKvParams& params) override;
  void GatherWindow(const GatherWindowParams& params) override;
  void WindowScores(const WindowScoresParams& params, void*) override;
  void MaxScores(const MaxScoresParams& params) override;
  void SelectTokens(const SelectTokensParams& params) override;
  void GatherRows(const GatherRowsParams& params) override;
  void ArgMax(const ArgMaxParams& params) override;

 private:
  // OpenMP's thread count belongs to the calling thread, so every op sets it: one thread for work
  // so small (`flop`) that waking the others would cost more than it gives.
  void UseThreads(double flop) const;
  const int num_threads_;
};

}  // namespace winnow
