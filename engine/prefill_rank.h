#pragma once

#include <array>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/kv_shipper.h"
#include "engine/model/transformer.h"
#include "engine/prefill_state.h"
#include "engine/stage_timeline.h"

namespace winnow {

// One item of a packed group, on one rank.
struct PackedItem {
  PrefillState* state = nullptr;
  int pass_index = 0;
  KvDestination destination;
  int64_t row_begin = 0;
  int64_t row_count = 0;
  bool is_last_chunk = false;  // of its pass

  const PrefillPass& pass() const { return state->plan().passes[pass_index]; }
};

// Whether rows of two passes can run side by side: through the same layers, entered and left alike.
bool RunTogether(const PrefillPass& a, const PrefillPass& b);

// Runs packed chunks of passes on one rank: rows of several sequences side by side through the
// matmuls, one attention call per sequence.
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

  // `timeline`, if not null, gets the stages. REQUIRES: the items' passes run together.
  absl::Status RunChunks(const std::vector<PackedItem>& items, StageTimeline* timeline,
                         Deadline deadline);

 private:
  PrefillRank(const Options& options, const ModelWeights& weights, Backend& backend,
              Communicator& communicator, const Clock& clock)
      : options_(options),
        weights_(weights),
        backend_(backend),
        communicator_(communicator),
        clock_(clock),
        shipper_(options.rank, backend) {}

  // The packed rows of the items into x_ and positions_.
  absl::Status LoadRows(const std::vector<PackedItem>& items, Deadline deadline);
  absl::Status EmbedRows(const PackedItem& item, void* to, Deadline deadline);
  void LoadHeldRows(const PackedItem& item, void* to);
  // Where each sequence's K,V of the packed rows go.
  std::vector<Transformer::KvSlots> Slots(int layer, const std::vector<PackedItem>& items) const;

  // The layers of a pass, by what runs of them. All rows, from input to output.
  absl::Status WholeLayer(int layer, const std::vector<PackedItem>& items, int64_t rows,
                          Deadline deadline);
  // The K,V of all rows, and the queries that are scored: the end of a pass from which others go
  // on.
  absl::Status KeysAndValues(int layer, const std::vector<PackedItem>& items, int64_t rows,
                             Deadline deadline);
  // The K,V of all rows, the rest for each sequence's last row only: the end of a pass with logits.
  absl::Status LastRows(int layer, const std::vector<PackedItem>& items, int64_t rows,
                        Deadline deadline);
  absl::Status MakeLogits(const std::vector<PackedItem>& items, Deadline deadline);

  // Attention of an item's rows, packed at `offset` of q and of the output, over its own K,V or
  // those of the pass that it goes on from. `lse`: TokenSelector::attention_lse, or null.
  void Attend(int layer, const PackedItem& item, const void* q, int64_t offset, float* lse);
  // Ends of layers whose K,V the items' passes made: ships what is final, and shows scored layers
  // their keys.
  absl::Status OnKeysComplete(int layer, const std::vector<PackedItem>& items, Deadline deadline);
  // Behind the last chunk of a pass: the rows of the next one.
  absl::Status SelectNext(const PackedItem& item, Deadline deadline);

  void* row(const Buffer& rows, int64_t index) const { return rows.at(index * hidden_bytes_); }
  // Waits until the layer before the last is done, so that what can no longer be called back is two
  // layers of work at most. The queue does not run dry.
  absl::Status BeginLayer(Deadline deadline);
  void EndStage(double StageTimes::*stage) {
    if (timeline_ != nullptr) timeline_->End(stage);
  }

  const Options options_;
  const ModelWeights& weights_;
  Backend& backend_;
  Communicator& communicator_;
  const Clock& clock_;
  const KvShipper shipper_;
  std::unique_ptr<Transformer> transformer_;
  StageTimeline* timeline_ = nullptr;           // of the step that runs
  double StageTimes::*layers_stage_ = nullptr;  // of its layers
  std::array<EventPtr, 2> layers_begun_;        // the last two
  int64_t hidden_bytes_ = 0;
  Buffer x_;          // [max_rows][hidden]
  Buffer last_rows_;  // [max_rows][hidden]: rows of the last layer whose logits are wanted
  Buffer iota_;       // [max_context] int32: 0, 1, 2, …
  Buffer positions_;  // [max_rows] int32
  Buffer ids_;        // [max_rows] int32: of rows that were selected before layer 0
};

}  // namespace winnow
