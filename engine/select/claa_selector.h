#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/select/token_selector.h"

namespace winnow {

// Cross-Layer Attention Aggregation of one prompt on one rank (docs/claa.md): keeps the window's
// queries of every scored layer while chunks pass, scores each layer once all keys are there, keeps
// the running maximum, and selects. One selection, out of all rows of the prompt.
class ClaaSelector final : public TokenSelector {
 public:
  // `communicator` must outlive the selector. RESOURCE_EXHAUSTED.
  static absl::StatusOr<std::unique_ptr<ClaaSelector>> Create(const SelectorContext& context,
                                                              Communicator& communicator);
  // Device memory that Create takes on a rank of `num_ranks`.
  static int64_t DeviceBytes(const SelectorContext& context, int num_ranks);

  int64_t first_query_row() const override { return window_begin(); }
  void OnQueries(int layer, const void* q, int64_t row_begin, int64_t rows) override;
  // Null too where the window does not lie in the chunk whole, or queries of other ranks are scored
  // with this one's.
  float* attention_lse(int layer, int64_t row_begin) const override;
  // With shared KV heads the ranks that share one exchange their window queries first.
  absl::Status OnKeys(int layer, const void* keys, const float* lse, Deadline deadline) override;

  // Merges the maximum over ranks: one all-reduce of E + 1 floats.
  absl::Status Reduce(int pass, Deadline deadline) override;
  void Select(int pass) override;
  // Rows of the whole prompt are their own positions.
  const int32_t* rows(int) const override { return positions_.data<int32_t>(); }
  const int32_t* positions(int) const override { return positions_.data<int32_t>(); }
  const int32_t* head_positions(int layer) const override {
    return head_positions_.data<int32_t>() +
           int64_t{layer - scoring().first_scored_layer} * heads_.kv_count * max_entries_;
  }

  void CopyResults() override;
  absl::Status Check() const override;
  absl::Span<const int32_t> kept_positions() const override;
  absl::Span<const float> scores() const override;

 private:
  struct Sizes;
  ClaaSelector(const SelectorContext& context, Communicator& communicator);
  absl::Status Allocate();

  const PrefillPass& scoring() const { return plan_.passes[0]; }  // the pass whose layers score
  int64_t num_kept() const { return plan_.passes[1].num_rows; }
  int64_t window_begin() const { return plan_.kv.tail_begin; }  // E
  int64_t rows_from_window() const { return plan_.kv.num_prompt_tokens - window_begin(); }
  int64_t window_bytes() const;  // of one layer's window queries
  // `count` positions for each of `rows` lists.
  SelectTokensParams select_params(int rows, int64_t count) const;

  const PrefillPlan plan_;
  const SelectionConfig config_;
  const HeadSplit heads_;
  Backend& backend_;
  Communicator& communicator_;
  const int64_t max_entries_;  // that a head stores of a layer whose heads choose

  Buffer window_q_;      // [scored layers][q_count][W][head_dim]
  Buffer window_lse_;    // [scored layers][q_count][N − E] f32
  Buffer gathered_q_;    // [T][q_count][W][head_dim], with shared KV heads only
  Buffer layer_scores_;  // [kv_count][E] f32
  // [E + 1] f32: the aggregated scores S[j], j < E, then the flag (> 0: a NaN was seen on some
  // rank).
  Buffer best_;
  Buffer spans_;  // [num_spans][2] int32
  int num_spans_ = 0;
  Buffer positions_;       // [C] int32
  Buffer head_positions_;  // [scored layers][kv_count][entries] int32
  Buffer workspace_;       // of Backend::WindowScores
  Buffer host_positions_, host_best_;
};

}  // namespace winnow
