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
  const int64_t rows = spec.plan.passes[0].num_rows;
  sequences_[next_sequence_] = {spec.plan, {.num_rows = rows}};
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
    const PrefillPass& pass = sequences_.at(item.sequence).plan.passes[item.pass];
    work_s += cost_.Rows(pass, item.row_begin, item.row_count);
    if (item.pass == 0) computed_rows_ += item.row_count;
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
    const int next = item.pass + 1;
    if (next < static_cast<int>(plan.passes.size())) {
      progress = {.pass = next, .num_rows = plan.passes[next].num_rows};
      continue;
    }
    progress = {.pass = next};
    PrefillOutput output;
    output.sequence = item.sequence;
    output.logits = {0, 1};
    outputs.push_back(std::move(output));
  }
  return outputs;
}

}  // namespace winnow
