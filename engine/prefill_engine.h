#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/kv/kv_staging.h"
#include "engine/kv_sink.h"
#include "plan/ledger.h"
#include "plan/model_shape.h"
#include "plan/prefill_plan.h"
#include "plan/selection_config.h"

namespace winnow {

// One prompt to prefill.
struct PrefillSpec {
  std::vector<int32_t> prompt_ids;  // [N], each in [0, vocab)
  SelectionConfig selection;        // resolved for the engine's model
  PrefillPlan plan;                 // MakePrefillPlan of the two
};

// A prompt is computed in the passes of its plan, one after the other, each cut into chunks of
// rows. The last chunk of a pass selects the rows of the next one, where the plan says so, or makes
// the logits.
struct PrefillProgress {
  int pass = 0;
  int64_t next_row = 0;  // of this pass
  int64_t num_rows = 0;  // of this pass; 0: all passes are done

  bool is_done() const { return num_rows == 0; }
};

// One chunk: rows [row_begin, row_begin + row_count) of a sequence's pass.
struct PrefillStepItem {
  int64_t sequence = 0;
  int pass = 0;
  int64_t row_begin = 0;
  int64_t row_count = 0;
};

// What a pass with logits gives.
struct PrefillOutput {
  int64_t sequence = 0;
  int pass = 0;
  bool is_last = true;  // no pass follows
  // Not OK: the sequence has failed alone, and the rest means nothing. INTERNAL: a score is not a
  // number, or the ranks disagree about the selection (IsSelectionMismatch).
  absl::Status status;
  std::vector<float> logits;            // [vocab] of the last prompt position
  std::vector<int32_t> kept_positions;  // ascending when pruned, else empty
  std::vector<float> scores;            // of the positions that compete, where scores decide
  uint64_t selection_digest = 0;        // of kept_positions; 0 when not pruned
  StageTimes stages;                    // the engine's stages, summed over chunks until now
};

// Device memory for a prompt, on the rank that has least. What cannot be counted has no end.
struct PrefillMemory {
  int64_t needed = 0;                                   // by the prompt, from Admit to Release
  int64_t free = std::numeric_limits<int64_t>::max();   // now
  int64_t total = std::numeric_limits<int64_t>::max();  // when no other prompt is there
};

// Computes prefills on a group of ranks. One thread calls it. Sequences are independent: a Step
// packs chunks of several.
class PrefillEngine {
 public:
  virtual ~PrefillEngine() = default;

  virtual const ModelShape& shape() const = 0;
  virtual int tensor_parallel() const = 0;
  virtual int kv_element_bytes() const = 0;
  // Most rows that one Step takes, over all its items.
  virtual int64_t max_step_rows() const = 0;

  // May be called from any thread.
  virtual PrefillMemory MemoryFor(const PrefillPlan& plan,
                                  const SelectionConfig& selection) const = 0;

  // Host memory for a plan's stored KV. RESOURCE_EXHAUSTED says how much was asked for. May be
  // called from any thread.
  virtual absl::StatusOr<std::shared_ptr<KvStaging>> AllocateStaging(const KvPlan& plan) = 0;

  // Takes a prompt and the memory to compute it; returns its sequence number. With `staging` the
  // stored KV is written there and told to `sink`, which must live until Release; without,
  // nothing is stored. INVALID_ARGUMENT (an empty prompt, one beyond the context, a token beyond
  // the vocabulary, a plan that contradicts itself or the prompt) · RESOURCE_EXHAUSTED.
  virtual absl::StatusOr<int64_t> Admit(PrefillSpec spec, std::shared_ptr<KvStaging> staging,
                                        KvSink* sink) = 0;

  // INVALID_ARGUMENT for an unknown sequence.
  virtual absl::StatusOr<PrefillProgress> Progress(int64_t sequence) const = 0;

  // Computes the items' chunks on all ranks together and returns the outputs of the passes that
  // ended with logits. An error concerns every item of the step: INVALID_ARGUMENT (an item does not
  // continue its sequence), DEADLINE_EXCEEDED or ABORTED (a rank was late or failed), INTERNAL (the
  // device). The caller then releases the step's sequences; others are not touched.
  virtual absl::StatusOr<std::vector<PrefillOutput>> Step(
      absl::Span<const PrefillStepItem> items) = 0;

  // Frees a sequence in any state, as soon as nothing that was started for it uses its memory.
  // Unknown ones are ignored.
  virtual void Release(int64_t sequence) = 0;
};

}  // namespace winnow
