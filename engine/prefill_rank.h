#pragma once

#include <array>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model/transformer.h"
#include "engine/prefill_state.h"
#include "engine/stage_timeline.h"

namespace winnow {

// One item of a packed group, on one rank.
struct PackedItem {
  PrefillState* state = nullptr;
  const KvStaging::Rank* staging = nullptr;  // null: nothing is stored
  KvSink* sink = nullptr;
  int64_t row_begin = 0;
  int64_t row_count = 0;
  bool is_last_chunk = false;  // of its phase
};

// Runs packed chunks of one phase on one rank: rows of several sequences side by side through the
// matmuls, one attention call per sequence. The items of a group have the same pivot layer.
class PrefillRank {
 public:
  struct Options {
    int rank = 0;
    int64_t max_rows = 0;  // of one step
    int64_t max_context = 0;
    bool trim_last_layer = true;
  };
  // The references must outlive it.
  static absl::StatusOr<std::unique_ptr<PrefillRank>> Create(const Options& options,
                                                             const ModelWeights& weights,
                                                             Backend& backend,
                                                             Communicator& communicator,
                                                             const Clock& clock);

  // Phase kPrompt. `timeline`, if not null, gets the stages.
  absl::Status RunPrompt(const std::vector<PackedItem>& items, StageTimeline* timeline,
                         Deadline deadline);
  // Phase kKept.
  absl::Status RunKept(const std::vector<PackedItem>& items, StageTimeline* timeline,
                       Deadline deadline);

 private:
  PrefillRank(const Options& options, const ModelWeights& weights, Backend& backend,
              Communicator& communicator, const Clock& clock)
      : options_(options),
        rank_(options.rank),
        weights_(weights),
        backend_(backend),
        communicator_(communicator),
        clock_(clock) {}

  void PackPositions(const std::vector<PackedItem>& items);
  void LoadKeptRows(const std::vector<PackedItem>& items, int pivot);
  // Where each sequence's K,V of the packed rows go.
  std::vector<Transformer::KvSlots> Slots(int layer, const std::vector<PackedItem>& items) const;
  absl::Status PromptLayer(int layer, const std::vector<PackedItem>& items, int64_t rows,
                           Deadline deadline);
  absl::Status PivotKv(int layer, const std::vector<PackedItem>& items, int64_t rows,
                       Deadline deadline);
  absl::Status KeptLayer(int layer, const std::vector<PackedItem>& items, int64_t rows,
                         Deadline deadline);
  absl::Status LastLayer(int layer, const std::vector<PackedItem>& items, int64_t rows,
                         Deadline deadline);
  // Scores a layer of a sequence whose keys are complete; `lse` of ClaaState::ScoreLayer.
  absl::Status Score(int layer, const PackedItem& item, const float* lse, Deadline deadline);
  absl::Status ReduceAndSelect(const PackedItem& item, Deadline deadline);
  absl::Status MakeLogits(const std::vector<PackedItem>& items, Deadline deadline);

  // Hands entries [begin, end) of a layer to the sink: copied, or gathered by each head's own
  // positions.
  void ShipRows(int layer, const PackedItem& item, int64_t begin, int64_t end);
  void ShipPerHead(int layer, const PackedItem& item);

  void* row(const Buffer& rows, int64_t index) const { return rows.at(index * hidden_bytes_); }
  // Waits until the layer before the last is done, so that what can no longer be called back is two
  // layers of work at most. The queue does not run dry.
  absl::Status BeginLayer(Deadline deadline);
  void EndStage(double StageTimes::*stage) {
    if (timeline_ != nullptr) timeline_->End(stage);
  }

  const Options options_;
  const int rank_;
  const ModelWeights& weights_;
  Backend& backend_;
  Communicator& communicator_;
  const Clock& clock_;
  std::unique_ptr<Transformer> transformer_;
  StageTimeline* timeline_ = nullptr;     // of the step that runs
  std::array<EventPtr, 2> layers_begun_;  // the last two
  int64_t hidden_bytes_ = 0;
  Buffer x_;          // [max_rows][hidden]
  Buffer last_rows_;  // [max_rows][hidden]: rows of the last layer whose logits are wanted
  Buffer iota_;       // [max_context] int32: 0, 1, 2, …
  Buffer positions_;  // [max_rows] int32
};

}  // namespace winnow
