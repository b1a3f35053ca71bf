#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/comm/communicator.h"
#include "engine/device/backend.h"
#include "plan/head_split.h"
#include "plan/kv_plan.h"

namespace winnow {

// Cross-Layer Attention Aggregation of one prompt on one rank (docs/claa.md): keeps the window's
// queries of every scored layer while chunks pass, scores each layer once all keys are there, keeps
// the running maximum, and selects. All work goes to the backend's queue; the host reads nothing
// before the end.
class ClaaState {
 public:
  // REQUIRES: plan.pruned. `backend` and `communicator` must outlive it.
  static absl::StatusOr<std::unique_ptr<ClaaState>> Create(const KvPlan& plan,
                                                           const SelectionConfig& config,
                                                           const HeadSplit& heads, Backend& backend,
                                                           Communicator& communicator);
  // Device memory that Create takes on a rank of `num_ranks`.
  static int64_t DeviceBytes(const KvPlan& plan, const SelectionConfig& config,
                             const HeadSplit& heads, const Backend& backend, int num_ranks);

  // Keeps those of the prompt rows [row_begin, row_begin + rows) that lie in the window. `q` is the
  // projection of the first of these rows: [rows][q_count][head_dim].
  void CaptureWindow(int layer, const void* q, int64_t row_begin, int64_t rows);

  // Where attention leaves the logarithms of the softmax's denominators of the rows from the window
  // on, [q_count][N − E], in a chunk [row_begin, …) that ends the prompt. Null: the window does not
  // lie in that chunk whole, or the queries of other ranks are scored too.
  float* window_lse(int layer, int64_t row_begin) const;

  // Scores `layer` against all its keys [kv_count][N][head_dim]; `lse`: window_lse, once attention
  // has filled it, or null. With shared KV heads the ranks that share one exchange their window
  // queries first. After it head_positions(layer) is valid for a layer that is compacted per head.
  absl::Status ScoreLayer(int layer, const void* keys, const float* lse, Deadline deadline);

  // Merges the maximum over ranks: one all-reduce of E + 1 floats.
  absl::Status Reduce(Deadline deadline);
  // Selects; positions() is valid after it.
  void Select();

  const int32_t* positions() const { return positions_.data<int32_t>(); }  // [C], device
  // [kv_count][C], device. Each layer has its own: they are copied out beside the queue.
  int32_t* head_positions(int layer) const {
    return head_positions_.data<int32_t>() +
           int64_t{layer - plan_.first_scored_layer} * heads_.kv_count * plan_.num_kept;
  }

  // Aggregated scores S[j], j < E, then the flag (> 0: a NaN was seen on some rank). Device, E + 1
  // floats.
  const float* scores() const { return best_.data<float>(); }

 private:
  ClaaState(const KvPlan& plan, const SelectionConfig& config, const HeadSplit& heads,
            Backend& backend, Communicator& communicator)
      : plan_(plan),
        config_(config),
        heads_(heads),
        backend_(backend),
        communicator_(communicator) {}
  struct Sizes;
  absl::Status Allocate();
  int64_t window_bytes() const;  // of one layer's window queries
  SelectTokensParams select_params() const;

  const KvPlan plan_;
  const SelectionConfig config_;
  const HeadSplit heads_;
  Backend& backend_;
  Communicator& communicator_;
  int64_t rows_from_window() const { return plan_.num_prompt_tokens - plan_.window_begin; }

  Buffer window_q_;      // [scored layers][q_count][W][head_dim]
  Buffer window_lse_;    // [scored layers][q_count][N − E] f32
  Buffer gathered_q_;    // [T][q_count][W][head_dim], with shared KV heads only
  Buffer layer_scores_;  // [kv_count][E] f32
  Buffer best_;          // [E + 1] f32
  Buffer spans_;         // [num_spans][2] int32
  int num_spans_ = 0;
  Buffer positions_;       // [C] int32
  Buffer head_positions_;  // [scored layers][kv_count][C] int32
  Buffer workspace_;       // of Backend::WindowScores
};

// 64-bit digest of selected positions, equal on all ranks or the request fails.
uint64_t SelectionDigest(const std::vector<int32_t>& positions);
// INTERNAL: `rank` chose other tokens than rank 0. IsSelectionMismatch tells it from other errors.
absl::Status SelectionMismatch(uint64_t digest_of_rank_0, uint64_t digest, int rank);
bool IsSelectionMismatch(const absl::Status& status);

}  // namespace winnow
