// TTFT of the prefill engine on one GPU: prompt ids on the host to the first token's logits on the
// host, random weights of the Llama-3.1-8B shape, one request, one chunk.
//
//   cuda_prefill_bench [--config DIR] [--tokens 2048,8192,32768] [--keep 0.1,0.2] [--repeats 5]
//                      [--tp 1]
//
// Prints a JSON object: {"device", "commit", "dense_ms": {N: …}, "claa_ms": {keep: {N: …}},
// "stages_ms": …}. Medians after one warm-up run; dense has the last-layer trim, as CLAA has.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <random>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "bench/commit.h"  // of the build folder
#include "engine/device/cuda_ranks.h"
#include "engine/model/model_ranks.h"
#include "engine/tensor_parallel_prefill.h"
#include "nlohmann/json.hpp"

namespace winnow {
namespace {

using Json = nlohmann::ordered_json;

[[noreturn]] void Die(const absl::Status& status) {
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  std::exit(1);
}
template <typename T>
T Unwrap(absl::StatusOr<T> value) {
  if (!value.ok()) Die(value.status());
  return *std::move(value);
}

struct Flags {
  std::string config = std::string(WINNOW_SOURCE_DIR) + "/bench/configs/llama-3.1-8b";
  std::vector<std::string> tokens = {"2048", "8192", "32768"};
  std::vector<std::string> keep = {"0.1", "0.2", "0.4"};
  int repeats = 5;
  int tensor_parallel = 1;
};

Flags ParseFlags(int argc, char** argv) {
  Flags flags;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i], value = argv[i + 1];
    if (name == "--config") {
      flags.config = value;
    } else if (name == "--tokens") {
      flags.tokens = absl::StrSplit(value, ',');
    } else if (name == "--keep") {
      flags.keep = absl::StrSplit(value, ',', absl::SkipEmpty());
    } else if (name == "--tp" && absl::SimpleAtoi(value, &flags.tensor_parallel)) {
      continue;
    } else if (name != "--repeats" || !absl::SimpleAtoi(value, &flags.repeats)) {
      Die(absl::InvalidArgumentError(name + ": unknown, or not a number: " + value));
    }
  }
  return flags;
}

class Engine {
 public:
  Engine(const std::string& config, int tensor_parallel, int64_t max_tokens) {
    ModelRanks::Options load{.model_dir = config,
                             .dtype = DType::kBf16,
                             .tensor_parallel = tensor_parallel,
                             .clock = &clock_,
                             .log_progress = true,
                             .random_weights = true};
    if (absl::Status status = UseCuda(load); !status.ok()) Die(status);
    ranks_ = Unwrap(LoadModelRanks(load));
    TensorParallelPrefill::Options options{
        .clock = &clock_, .max_step_rows = max_tokens, .max_context = max_tokens};
    ranks_->Fill(options);
    engine_ = Unwrap(TensorParallelPrefill::Create(options));
  }

  struct Result {
    double ms = 0;
    StageTimes stages;
  };
  Result Run(const std::vector<int32_t>& ids, const SelectionOverrides& overrides) {
    const absl::Time begin = clock_.Now();
    SelectionConfig profile = DefaultSelectionConfig(engine_->shape());
    profile.min_prompt_tokens = profile.min_kept_tokens = 0;
    PrefillSpec spec;
    spec.prompt_ids = ids;
    spec.selection = Unwrap(ResolveSelectionConfig(profile, overrides, engine_->shape()));
    spec.plan = MakeKvPlan(engine_->shape(), spec.selection, static_cast<int64_t>(ids.size()));
    const int64_t sequence = Unwrap(engine_->Admit(std::move(spec), nullptr, nullptr));
    while (true) {
      const PrefillProgress progress = Unwrap(engine_->Progress(sequence));
      const int64_t rows =
          std::min(engine_->max_step_rows(), progress.num_rows - progress.next_row);
      const PrefillStepItem item{sequence, progress.phase, progress.next_row, rows};
      const std::vector<PrefillOutput> outputs = Unwrap(engine_->Step({item}));
      if (outputs.empty()) continue;
      const Result result{absl::ToDoubleMilliseconds(clock_.Now() - begin), outputs[0].stages};
      engine_->Release(sequence);
      return result;
    }
  }

 private:
  RealClock clock_;
  std::unique_ptr<ModelRanks> ranks_;
  std::unique_ptr<TensorParallelPrefill> engine_;
};

double MedianMs(Engine& engine, const std::vector<int32_t>& ids,
                const SelectionOverrides& overrides, int repeats) {
  engine.Run(ids, overrides);
  std::vector<double> times;
  for (int i = 0; i < repeats; ++i) times.push_back(engine.Run(ids, overrides).ms);
  std::nth_element(times.begin(), times.begin() + repeats / 2, times.end());
  return times[repeats / 2];
}

int Main(int argc, char** argv) {
  const Flags flags = ParseFlags(argc, argv);
  std::vector<int64_t> sizes;
  for (const std::string& text : flags.tokens) {
    if (!absl::SimpleAtoi(text, &sizes.emplace_back())) {
      Die(absl::InvalidArgumentError("--tokens: not a number: " + text));
    }
  }
  cudaDeviceProp properties;
  if (cudaGetDeviceProperties(&properties, 0) != cudaSuccess) {
    Die(absl::UnavailableError("no GPU here"));
  }
  Engine engine(flags.config, flags.tensor_parallel, *std::max_element(sizes.begin(), sizes.end()));
  Json json = {{"device", properties.name},
               {"tensor_parallel", flags.tensor_parallel},
               {"commit", WINNOW_COMMIT}};
  std::mt19937 random(1);
  for (const int64_t size : sizes) {
    std::vector<int32_t> ids(size);
    for (int32_t& id : ids) id = static_cast<int32_t>(random() % 128000);
    const std::string n = std::to_string(size);
    json["dense_ms"][n] = MedianMs(engine, ids, {.policy = "full"}, flags.repeats);
    std::fprintf(stderr, "dense %s: %.2f ms\n", n.c_str(), json["dense_ms"][n].get<double>());
    for (const std::string& keep : flags.keep) {
      double ratio = 0;
      if (!absl::SimpleAtod(keep, &ratio)) Die(absl::InvalidArgumentError("--keep: " + keep));
      json["claa_ms"][keep][n] =
          MedianMs(engine, ids, {.policy = "claa", .keep_ratio = ratio}, flags.repeats);
      std::fprintf(stderr, "claa %s %s: %.2f ms\n", keep.c_str(), n.c_str(),
                   json["claa_ms"][keep][n].get<double>());
    }
  }
  std::printf("%s\n", json.dump().c_str());
  return 0;
}

}  // namespace
}  // namespace winnow

int main(int argc, char** argv) { return winnow::Main(argc, argv); }
