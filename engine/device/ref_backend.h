#pragma once

#include "engine/device/host_backend.h"

namespace winnow {

// The *_ref ops on the calling thread: the truth that other backends are tested against, and what
// sanitizer builds run, since neither OpenMP nor oneDNN is instrumented.
class RefBackend : public HostBackend {
 public:
  explicit RefBackend(ModelTypes types) : HostBackend(types) {}

  std::string name() const override { return "cpu-ref"; }
  absl::StatusOr<std::unique_ptr<PackedWeight>> Pack(const MatmulWeight& weight) override;
  void Matmul(const PackedWeight& weight, const MatmulParams& params) override;
  void RmsNorm(const RmsNormParams& params) override { RmsNormRef(params); }
  void Rope(const RopeParams& params) override { RopeRef(params); }
  void StoreKv(const StoreKvParams& params) override { StoreKvRef(params); }
  void GatedAct(const GatedActParams& params) override { GatedActRef(params); }
  void Embedding(const EmbeddingParams& params) override { EmbeddingRef(params); }
  void Attention(const AttentionParams& params) override { AttentionRef(params); }
  void PagedAttention(const PagedAttentionParams& params, void*) override {
    PagedAttentionRef(params);
  }
  void PagedStoreKv(const PagedStoreKvParams& params) override { PagedStoreKvRef(params); }
  void GatherWindow(const GatherWindowParams& params) override { GatherWindowRef(params); }
  void WindowScores(const WindowScoresParams& params, void*) override { WindowScoresRef(params); }
  void MaxScores(const MaxScoresParams& params) override { MaxScoresRef(params); }
  void SelectTokens(const SelectTokensParams& params) override { SelectTokensRef(params); }
  void GatherRows(const GatherRowsParams& params) override { GatherRowsRef(params); }
  void ArgMax(const ArgMaxParams& params) override { ArgMaxRef(params); }
};

}  // namespace winnow
