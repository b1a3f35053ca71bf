#include "tests/simulation/simulated_engine.h"

#include <utility>

namespace winnow {

// As many bytes as the real one, counted and never touched.
absl::StatusOr<std::shared_ptr<KvStaging>> SimulatedPrefillEngine::AllocateStaging(
    const KvPlan& plan) {
  static char nothing;
  auto staging = std::make_shared<KvStaging>();
  staging->plan = plan;
  KvStaging::Rank rank;
  rank.memory = Buffer(&nothing, plan.payload_bytes(kv_element_bytes()), [](void*) {});
  staging->ranks.push_back(std::move(rank));
  return staging;
}

absl::StatusOr<int64_t> SimulatedPrefillEngine::Admit(PrefillSpec spec, std::shared_ptr<KvStaging>,
                                                      KvSink*) {
  const int64_t rows = spec.plan.num_prompt_tokens;
  sequences_[next_sequence_] = {spec.plan, {PrefillPhase::kPrompt, 0, rows}};
  return next_sequence_++;
}

absl::StatusOr<PrefillProgress> SimulatedPrefillEngine::Progress(int64_t sequence) const {
  const auto it = sequences_.find(sequence);
  if (it == sequences_.end()) return absl::InvalidArgumentError("no such sequence");
  return it->second.progress;
}

absl::StatusOr<std::vector<PrefillOutput>> SimulatedPrefillEngine::Step(
    absl::Span<const PrefillStepItem> items) {
  double work_s = 0;
  for (const PrefillStepItem& item : items) {
    const bool is_first = item.phase == PrefillPhase::kPrompt;
    work_s +=
        cost_.Rows(sequences_.at(item.sequence).plan, is_first, item.row_begin, item.row_count);
    if (is_first) computed_rows_ += item.row_count;
  }
  const absl::Duration took = cost_.PrefillStep(work_s);
  busy_ += took;
  longest_step_ = std::max(longest_step_, took);
  clock_.Sleep(took);

  std::vector<PrefillOutput> outputs;
  for (const PrefillStepItem& item : items) {
    auto& [plan, progress] = sequences_.at(item.sequence);
    progress.next_row += item.row_count;
    if (progress.next_row < progress.num_rows) continue;
    if (progress.phase == PrefillPhase::kPrompt) {
      progress = {PrefillPhase::kKept, 0, plan.num_phase2_rows()};
      continue;
    }
    progress.phase = PrefillPhase::kDone;
    PrefillOutput output;
    output.sequence = item.sequence;
    output.logits = {0, 1};
    outputs.push_back(std::move(output));
  }
  return outputs;
}

}  // namespace winnow
