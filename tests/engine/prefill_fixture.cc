#include "tests/engine/prefill_fixture.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "checkpoint/selection_profile.h"
#include "common/read_file.h"
#include "engine/device/ref_backend.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace winnow {
namespace {

template <typename T>
T Unwrap(absl::StatusOr<T> value) {
  if (!value.ok()) {
    ADD_FAILURE() << value.status();
    std::abort();
  }
  return *std::move(value);
}

// Swallows what is ready; the tests read the staging at the end.
class NullSink final : public KvSink {
 public:
  void OnKvReady(const KvReady&, EventPtr) override {}
};
NullSink null_sink;

}  // namespace

std::string PrefillFixture::DemoModel() { return std::string(WINNOW_SOURCE_DIR) + "/models/demo"; }

PrefillFixture::PrefillFixture(const Options& options) : model_dir_(options.model_dir) {
  ModelRanks::Options load{.model_dir = model_dir_,
                           .types = options.dtype,
                           .tensor_parallel = options.tensor_parallel,
                           .threads_per_rank = 1,
                           .clock = &clock_};
  if (options.reference_ops) {
    load.make_backend = [dtype = options.dtype](int) {
      return std::make_unique<RefBackend>(dtype);
    };
  }
  if (options.use_device) {
    EXPECT_EQ(options.use_device(load), absl::OkStatus());
  }
  ranks_ = Unwrap(LoadModelRanks(load));
  TensorParallelPrefill::Options engine_options{.clock = &clock_,
                                                .max_step_rows = options.max_step_rows,
                                                .step_timeout = options.step_timeout,
                                                .selectors = options.selectors};
  engine_options.parts = ranks_->parts();
  engine_options.parts.reset_communicators = [this] {
    EXPECT_EQ(ranks_->communicators->Reset(), absl::OkStatus());
  };
  for (int rank = 0; options.wrap && rank < options.tensor_parallel; ++rank) {
    wrapped_.push_back(options.wrap(rank, ranks_->communicators->communicator(rank)));
    engine_options.parts.ranks[rank].communicator = wrapped_.back().get();
  }
  engine_ = Unwrap(TensorParallelPrefill::Create(engine_options));
}

SelectionConfig PrefillFixture::Resolve(const SelectionOverrides& overrides) const {
  SelectionConfig profile = Unwrap(LoadSelectionProfile(model_dir_, config().shape));
  profile.min_prompt_tokens = 0;
  profile.min_kept_tokens = 0;
  return Unwrap(ResolveSelectionConfig(profile, overrides, config().shape));
}

absl::StatusOr<PrefillFixture::Run> PrefillFixture::Prefill(const std::vector<int32_t>& ids,
                                                            const SelectionOverrides& overrides,
                                                            int64_t chunk) {
  if (chunk == 0) chunk = engine_->max_step_rows();
  PrefillSpec spec;
  spec.prompt_ids = ids;
  spec.selection = Resolve(overrides);
  spec.plan = MakePrefillPlan(engine_->shape(), spec.selection, static_cast<int64_t>(ids.size()));
  Run run;
  auto staging = engine_->AllocateStaging(spec.plan.kv);
  if (!staging.ok()) return staging.status();
  run.staging = *staging;
  auto sequence = engine_->Admit(std::move(spec), run.staging, &null_sink);
  if (!sequence.ok()) return sequence.status();
  while (true) {
    auto progress = engine_->Progress(*sequence);
    if (!progress.ok()) return progress.status();
    const int64_t rows = std::min(chunk, progress->num_rows - progress->next_row);
    const PrefillStepItem item{*sequence, progress->pass, progress->next_row, rows};
    auto outputs = engine_->Step({item});
    if (!outputs.ok() || !outputs->empty()) {
      engine_->Release(*sequence);
      if (!outputs.ok()) return outputs.status();
      run.output = std::move(outputs->front());
      if (!run.output.status.ok()) return run.output.status;
      return run;
    }
  }
}

GoldenCase LoadGoldenCase(int index) {
  const std::string path =
      std::string(WINNOW_SOURCE_DIR) + "/tests/golden/demo/case" + std::to_string(index) + ".json";
  const auto json = nlohmann::json::parse(ReadFile(path).value_or(""));
  GoldenCase golden;
  golden.ids = json["ids"].get<std::vector<int32_t>>();
  golden.full_tokens = json["full_tokens"].get<std::vector<int32_t>>();
  golden.first_token_logits = json["first_token_logits"].get<std::vector<float>>();
  golden.selection_scores = json["selection_scores"].get<std::vector<float>>();
  for (const auto& [ratio, claa] : json["claa"].items()) {
    golden.claa.push_back({std::stod(ratio), claa["tokens"].get<std::vector<int32_t>>(),
                           claa["kept_positions"].get<std::vector<int32_t>>()});
  }
  return golden;
}

std::vector<int32_t> DifferencesAwayFromTheCut(const std::vector<int32_t>& a,
                                               const std::vector<int32_t>& b,
                                               const std::vector<float>& scores, double tolerance) {
  const std::set<int32_t> in_a(a.begin(), a.end()), in_b(b.begin(), b.end());
  const auto window_begin = static_cast<int32_t>(scores.size());
  // The cut is the lowest score among what `a` chose by score.
  float cut = INFINITY;
  for (int32_t position : a) {
    if (position < window_begin) cut = std::min(cut, scores[position]);
  }
  std::vector<int32_t> differences;
  for (int32_t position = 0; position < window_begin; ++position) {
    if (in_a.count(position) == in_b.count(position)) continue;
    if (std::abs(scores[position] - cut) > tolerance) differences.push_back(position);
  }
  return differences;
}

}  // namespace winnow
