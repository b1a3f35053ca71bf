// TTFT of the prefill engine on one GPU: prompt ids on the host to the first token's logits on the
// host, random weights of the Llama-3.1-8B shape, one request, one chunk.
//
//   cuda_prefill_bench [--config DIR] [--tokens 2048,8192,32768] [--keep 0.1,0.2] [--repeats 5]
//                      [--tp 1] [--min-overlap-elements N] [--as-served] [--nodetails]
//
// Prints a JSON object: {"device", "commit", "dense_ms": {N: …}, "dense_untrimmed_ms": {N: …},
// "claa_ms": {keep: {N: …}}, "shipping_ms": {N: …}, "op_ms": {run: {N: {op: …}}}, "stage_ms":
// {N: {stage: …}}, "score_share": {N: …}, "stream_drains"}. Medians after one warm-up run; dense
// and CLAA compute one row of the last layer of an unpruned prompt, dense_untrimmed all. With
// --as-served, CLAA keeps of a short prompt what a service keeps: the profile's minimum.
// shipping_ms, op_ms, stage_ms (the engine's stages in the median run) and score_share (scores,
// reduction, selection and gathers: the stages score, allreduce and select in their sum) are of
// runs of the first --keep whose KV goes to pinned memory as a handoff's does. stream_drains: how
// often, in the worst run, the host waited for the GPU before the wait for the logits. With --tp,
// allreduce_ms {run: {N: {"sum", "max"}}}: how long rank 0's queue was in the layers' and in the
// scores' all-reduces, in one run.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>
#include <mutex>
#include <optional>
#include <random>

#include "absl/flags/flag.h"
#include "absl/strings/numbers.h"
#include "bench/commit.h"  // of the build folder
#include "bench/timed_group.h"
#include "bench/unwrap.h"
#include "common/program_flags.h"
#include "engine/device/cuda_backend.h"
#include "engine/ranks/cuda_ranks.h"
#include "engine/ranks/model_ranks.h"
#include "engine/tensor_parallel_prefill.h"
#include "nlohmann/json.hpp"

using Words = std::vector<std::string>;
ABSL_FLAG(std::string, config, std::string(WINNOW_SOURCE_DIR) + "/bench/configs/llama-3.1-8b",
          "folder with the model's config.json");
ABSL_FLAG(Words, tokens, (Words{"2048", "8192", "32768"}), "of the prompts");
ABSL_FLAG(Words, keep, (Words{"0.1", "0.2", "0.4"}), "keep ratios of the CLAA runs");
ABSL_FLAG(int, repeats, 5, "timed, after one");
ABSL_FLAG(int, tp, 1, "GPUs that share the model");
ABSL_FLAG(std::optional<int64_t>, min_overlap_elements, std::nullopt,
          "the smallest sum that overlaps with compute, instead of the engine's choice");
ABSL_FLAG(bool, as_served, false, "CLAA keeps the profile's minimum of a short prompt");
ABSL_FLAG(bool, details, true, "what comes after claa_ms");

namespace winnow {
namespace {

using Json = nlohmann::ordered_json;

class Engine {
 public:
  explicit Engine(int64_t max_tokens) {
    const int tensor_parallel = absl::GetFlag(FLAGS_tp);
    ModelRanks::Options load{.model_dir = absl::GetFlag(FLAGS_config),
                             .types = DType::kBf16,
                             .tensor_parallel = tensor_parallel,
                             .clock = &clock_,
                             .log_progress = true,
                             .min_overlap_elements = absl::GetFlag(FLAGS_min_overlap_elements),
                             .random_weights = true};
    if (absl::Status status = UseCuda(load); !status.ok()) Die(status);
    if (tensor_parallel > 1) {
      load.make_communicators =
          [this, make = load.make_communicators](
              const auto& backends) -> absl::StatusOr<std::unique_ptr<CommunicatorGroup>> {
        auto timed = std::make_unique<TimedGroup>(Unwrap(make(backends)), *backends[0]);
        timed_ = timed.get();
        return timed;
      };
    }
    ranks_ = Unwrap(LoadModelRanks(load));
    options_ = {.clock = &clock_, .max_step_rows = max_tokens, .max_context = max_tokens};
    options_.parts = ranks_->parts();
    Trim(true);
  }

  // Whether the last layer computes the last row alone.
  void Trim(bool trim) {
    engine_.reset();
    options_.trim_last_layer = trim;
    engine_ = Unwrap(TensorParallelPrefill::Create(options_));
  }
  // Null with one rank.
  TimedGroup* timed() { return timed_; }
  CudaBackend& backend() { return static_cast<CudaBackend&>(*ranks_->backends[0]); }

  struct Result {
    double ms = 0;
    int64_t drains = 0;
    StageTimes stages;
  };
  Result Run(const std::vector<int32_t>& ids, const SelectionOverrides& overrides,
             bool ships = false) {
    AwaitMemory();
    const int64_t drains = backend().num_drains();
    const absl::Time begin = clock_.Now();
    SelectionConfig profile = DefaultSelectionConfig(engine_->shape());
    if (!absl::GetFlag(FLAGS_as_served)) profile.min_prompt_tokens = profile.min_kept_tokens = 0;
    PrefillSpec spec;
    spec.prompt_ids = ids;
    spec.selection = Unwrap(ResolveSelectionConfig(profile, overrides, engine_->shape()));
    spec.plan = MakePrefillPlan(engine_->shape(), spec.selection, static_cast<int64_t>(ids.size()));
    std::shared_ptr<KvStaging> staging;
    if (ships) staging = Unwrap(engine_->AllocateStaging(spec.plan.kv));
    const int64_t sequence =
        Unwrap(engine_->Admit(std::move(spec), staging, ships ? &sink_ : nullptr));
    while (true) {
      const PrefillProgress progress = Unwrap(engine_->Progress(sequence));
      const int64_t rows =
          std::min(engine_->max_step_rows(), progress.num_rows - progress.next_row);
      const PrefillStepItem item{sequence, progress.pass, progress.next_row, rows};
      const std::vector<PrefillOutput> outputs = Unwrap(engine_->Step({item}));
      if (outputs.empty()) continue;
      if (!outputs[0].status.ok()) Die(outputs[0].status);
      const Result result{absl::ToDoubleMilliseconds(clock_.Now() - begin),
                          backend().num_drains() - drains - 1, outputs[0].stages};
      sink_.Wait(clock_);
      engine_->Release(sequence);
      return result;
    }
  }

 private:
  // A released prompt's memory comes back a little later.
  void AwaitMemory() const {
    const SelectionConfig selection = DefaultSelectionConfig(engine_->shape());
    const PrefillPlan plan = MakePrefillPlan(engine_->shape(), selection, 1);
    while (true) {
      const PrefillMemory memory = engine_->MemoryFor(plan, selection);
      if (memory.free == memory.total) return;
      absl::SleepFor(absl::Microseconds(100));
    }
  }
  // Takes the KV and lets it lie.
  class Sink final : public KvSink {
   public:
    void OnKvReady(const KvReady&, EventPtr event) override {
      std::lock_guard<std::mutex> lock(mutex_);
      events_.push_back(std::move(event));
    }
    void Wait(const Clock& clock) {
      std::lock_guard<std::mutex> lock(mutex_);
      for (const EventPtr& event : events_) {
        if (absl::Status status = event->Wait(clock, Deadline::Infinite()); !status.ok()) {
          Die(status);
        }
      }
      events_.clear();
    }

   private:
    std::mutex mutex_;
    std::vector<EventPtr> events_;
  };

  RealClock clock_;
  Sink sink_;
  std::unique_ptr<ModelRanks> ranks_;
  TimedGroup* timed_ = nullptr;  // of ranks_
  TensorParallelPrefill::Options options_;
  std::unique_ptr<TensorParallelPrefill> engine_;
};

SelectionOverrides Claa(const std::string& keep) {
  double ratio = 0;
  if (!absl::SimpleAtod(keep, &ratio)) Die(absl::InvalidArgumentError("--keep: " + keep));
  return {.policy = "claa", .keep_ratio = ratio};
}

struct Median {
  double ms = 0;
  int64_t drains = 0;  // of the worst run
  StageTimes stages;   // of the run in the middle
};
Median Measure(Engine& engine, const std::vector<int32_t>& ids, const SelectionOverrides& overrides,
               int repeats, bool ships = false) {
  engine.Run(ids, overrides, ships);
  std::vector<Engine::Result> results;
  Median median;
  for (int i = 0; i < repeats; ++i) {
    results.push_back(engine.Run(ids, overrides, ships));
    median.drains = std::max(median.drains, results.back().drains);
  }
  const auto middle = results.begin() + repeats / 2;
  std::nth_element(results.begin(), middle, results.end(),
                   [](const auto& a, const auto& b) { return a.ms < b.ms; });
  median.ms = middle->ms;
  median.stages = middle->stages;
  return median;
}

// Milliseconds of each kind of op in one run that ships its KV.
std::map<std::string, double> OpTimes(Engine& engine, const std::vector<int32_t>& ids,
                                      const SelectionOverrides& overrides) {
  engine.backend().TakeOpTimes();
  engine.backend().TimeOps(true);
  engine.Run(ids, overrides, /*ships=*/true);
  engine.backend().TimeOps(false);
  return engine.backend().TakeOpTimes();
}

// Of one run.
Json AllReduceTimes(Engine& engine, const std::vector<int32_t>& ids,
                    const SelectionOverrides& overrides) {
  engine.timed()->Take();
  engine.Run(ids, overrides);
  const TimedGroup::Times times = engine.timed()->Take();
  return {{"sum", times.sum_ms}, {"max", times.max_ms}};
}

int Main() {
  const Words keep_ratios = absl::GetFlag(FLAGS_keep);
  const int repeats = absl::GetFlag(FLAGS_repeats);
  const bool has_details = absl::GetFlag(FLAGS_details);
  std::vector<int64_t> sizes;
  for (const std::string& text : absl::GetFlag(FLAGS_tokens)) {
    if (!absl::SimpleAtoi(text, &sizes.emplace_back())) {
      Die(absl::InvalidArgumentError("--tokens: not a number: " + text));
    }
  }
  cudaDeviceProp properties;
  if (cudaGetDeviceProperties(&properties, 0) != cudaSuccess) {
    Die(absl::UnavailableError("no GPU here"));
  }
  Engine engine(*std::max_element(sizes.begin(), sizes.end()));
  Json json = {{"device", properties.name},
               {"tensor_parallel", absl::GetFlag(FLAGS_tp)},
               {"commit", WINNOW_COMMIT}};
  if (const auto least = absl::GetFlag(FLAGS_min_overlap_elements))
    json["min_overlap_elements"] = *least;
  std::mt19937 random(1);
  int64_t drains = 0;
  std::vector<std::vector<int32_t>> prompts;
  for (const int64_t size : sizes) {
    std::vector<int32_t>& ids = prompts.emplace_back(size);
    for (int32_t& id : ids) id = static_cast<int32_t>(random() % 128000);
    const std::string n = std::to_string(size);
    const auto report = [&](const std::string& what, const Median& median) {
      drains = std::max(drains, median.drains);
      std::fprintf(stderr, "%s %s: %.2f ms\n", what.c_str(), n.c_str(), median.ms);
      return median.ms;
    };
    const SelectionOverrides dense{.policy = "full"};
    json["dense_ms"][n] = report("dense", Measure(engine, ids, dense, repeats));
    for (const std::string& keep : keep_ratios) {
      const SelectionOverrides claa = Claa(keep);
      json["claa_ms"][keep][n] = report("claa " + keep, Measure(engine, ids, claa, repeats));
    }
    if (engine.timed() != nullptr) {
      json["allreduce_ms"]["dense"][n] = AllReduceTimes(engine, ids, dense);
      for (const std::string& keep : keep_ratios) {
        json["allreduce_ms"][keep][n] = AllReduceTimes(engine, ids, Claa(keep));
      }
    }
    if (!keep_ratios.empty() && has_details) {
      const SelectionOverrides claa = Claa(keep_ratios[0]);
      const Median shipping = Measure(engine, ids, claa, repeats, /*ships=*/true);
      json["shipping_ms"][n] = report("claa that ships " + keep_ratios[0], shipping);
      json["op_ms"]["dense"][n] = OpTimes(engine, ids, dense);
      json["op_ms"]["claa"][n] = OpTimes(engine, ids, claa);
      const StageTimes& s = shipping.stages;
      json["stage_ms"][n] = {{"full_layers", s.full_layers * 1e3},     {"score", s.score * 1e3},
                             {"allreduce", s.allreduce * 1e3},         {"select", s.select * 1e3},
                             {"pruned_layers", s.pruned_layers * 1e3}, {"head", s.head * 1e3}};
      const double scoring = s.score + s.allreduce + s.select;
      json["score_share"][n] = scoring / (s.full_layers + scoring + s.pruned_layers + s.head);
    }
  }
  if (has_details) {
    engine.Trim(false);
    for (size_t i = 0; i < sizes.size(); ++i) {
      const std::string n = std::to_string(sizes[i]);
      json["dense_untrimmed_ms"][n] = Measure(engine, prompts[i], {.policy = "full"}, repeats).ms;
      std::fprintf(stderr, "dense untrimmed %s: %.2f ms\n", n.c_str(),
                   json["dense_untrimmed_ms"][n].get<double>());
    }
  }
  json["stream_drains"] = drains;
  std::printf("%s\n", json.dump().c_str());
  return 0;
}

}  // namespace
}  // namespace winnow

int main(int argc, char** argv) {
  winnow::ParseProgramFlags(argc, argv,
                            "TTFT of the prefill engine on GPUs, dense and with CLAA. Prints a "
                            "JSON object.");
  return winnow::Main();
}
