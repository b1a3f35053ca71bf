// Prefill of the demo model: tokens per second and share of the peak, for both policies, with T
// ranks that share the same number of threads.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "bench/bench_main.h"
#include "bench/peak_flops.h"
#include "benchmark/benchmark.h"
#include "checkpoint/selection_profile.h"
#include "engine/ranks/model_ranks.h"
#include "engine/tensor_parallel_prefill.h"
#include "kernels/matmul.h"
#include "plan/prefill_flop.h"

namespace winnow {
namespace {

const std::string kModelDir = std::string(WINNOW_SOURCE_DIR) + "/models/demo";

class Engine {
 public:
  Engine(int tensor_parallel, int threads) {
    ModelRanks::Options options;
    options.model_dir = kModelDir;
    options.types = CpuHasBf16() ? DType::kBf16 : DType::kF32;
    options.tensor_parallel = tensor_parallel;
    options.threads_per_rank = std::max(1, threads / tensor_parallel);
    options.clock = &clock_;
    auto ranks = LoadModelRanks(options);
    if (!ranks.ok()) Die(ranks.status());
    ranks_ = *std::move(ranks);
    TensorParallelPrefill::Options engine_options{.clock = &clock_};
    engine_options.parts = ranks_->parts();
    auto engine = TensorParallelPrefill::Create(engine_options);
    if (!engine.ok()) Die(engine.status());
    engine_ = *std::move(engine);
  }

  PrefillPlan Run(const std::vector<int32_t>& ids, const std::string& policy) {
    const auto profile = LoadSelectionProfile(kModelDir, engine_->shape());
    if (!profile.ok()) Die(profile.status());
    const auto config =
        ResolveSelectionConfig(*profile, {.policy = policy, .keep_ratio = 0.1}, engine_->shape());
    PrefillSpec spec{ids, *config,
                     MakePrefillPlan(engine_->shape(), *config, static_cast<int64_t>(ids.size()))};
    const PrefillPlan plan = spec.plan;
    const int64_t sequence = *engine_->Admit(std::move(spec), nullptr, nullptr);
    while (true) {
      const PrefillProgress progress = *engine_->Progress(sequence);
      const int64_t rows =
          std::min(engine_->max_step_rows(), progress.num_rows - progress.next_row);
      const PrefillStepItem item{sequence, progress.pass, progress.next_row, rows};
      const auto outputs = engine_->Step({item});
      if (!outputs.ok()) Die(outputs.status());
      if (outputs->empty()) continue;
      if (!outputs->front().status.ok()) Die(outputs->front().status);
      break;
    }
    engine_->Release(sequence);
    return plan;
  }
  const ModelShape& shape() const { return engine_->shape(); }

 private:
  [[noreturn]] static void Die(const absl::Status& status) {
    std::fprintf(stderr, "%s\n", status.ToString().c_str());
    std::exit(1);
  }
  RealClock clock_;
  std::unique_ptr<ModelRanks> ranks_;
  std::unique_ptr<TensorParallelPrefill> engine_;
};

void BM_Prefill(benchmark::State& state, const std::string& policy, int tensor_parallel) {
  const int threads = static_cast<int>(std::thread::hardware_concurrency());
  Engine engine(tensor_parallel, threads);
  std::mt19937 random(1);
  std::vector<int32_t> ids(state.range(0));
  for (int32_t& id : ids) id = static_cast<int32_t>(random() % 4000);
  PrefillPlan plan = engine.Run(ids, policy);  // warm-up
  for (auto _ : state) plan = engine.Run(ids, policy);
  const double flop = PrefillFlop(engine.shape(), plan);
  const double peak = PeakFlops(CpuHasBf16() ? DType::kBf16 : DType::kF32, threads);
  state.counters["tokens_per_s"] = benchmark::Counter(
      static_cast<double>(state.range(0)), benchmark::Counter::kIsIterationInvariantRate);
  SetFlopCounters(state, flop, peak);
}

void RegisterAll() {
  for (int tensor_parallel : {1, 2}) {
    for (const char* policy : {"full", "claa"}) {
      benchmark::RegisterBenchmark(
          absl::StrCat("prefill/", policy, "/T", tensor_parallel).c_str(),
          [=](benchmark::State& state) { BM_Prefill(state, policy, tensor_parallel); })
          ->Arg(512)
          ->Arg(2048)
          ->Arg(8192)
          ->Arg(16384)
          ->Unit(benchmark::kMillisecond)
          ->UseRealTime();
    }
  }
}
const bool registered = (RegisterAll(), true);

}  // namespace
}  // namespace winnow
