// Decode steps on one GPU: random weights of the Llama-3.1-8B shape, random KV, greedy.
//
//   cuda_decode_bench [--config DIR] [--tokens 8192] [--batch 1,8,32,64] [--keep 0.1] [--steps 40]
//
// Prints a JSON object: {"device", "commit", "copy_gb_s", "steps": [{"batch", "prompt_tokens",
// "policy", "ms", "tokens_per_s", "read_gb", "share", "op_ms"}]}. ms: the median step, from ids on
// the host to ids on the host. read_gb: the weights and the KV entries that a step must read;
// share: read_gb at the rate of a plain copy (copy_gb_s: bytes read and written) over ms. op_ms:
// sums between events in a step that is not recorded as a graph.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <random>

#include "absl/flags/flag.h"
#include "absl/strings/numbers.h"
#include "bench/commit.h"  // of the build folder
#include "bench/unwrap.h"
#include "common/program_flags.h"
#include "engine/device/cuda_backend.h"
#include "engine/ranks/cuda_ranks.h"
#include "engine/tensor_parallel_decode.h"
#include "nlohmann/json.hpp"
#include "plan/selection_config.h"

ABSL_FLAG(std::string, config, std::string(WINNOW_SOURCE_DIR) + "/bench/configs/llama-3.1-8b",
          "folder with the model's config.json");
ABSL_FLAG(int64_t, tokens, 8192, "of each prompt");
ABSL_FLAG(std::vector<std::string>, batch, (std::vector<std::string>{"1", "8", "32", "64"}),
          "sequences in a step");
ABSL_FLAG(double, keep, 0.1, "keep ratio of the CLAA runs");
ABSL_FLAG(int, steps, 40, "timed, after five");
ABSL_FLAG(int64_t, kv_gib, 44, "memory for KV blocks; larger runs are left out");

namespace winnow {
namespace {

using Json = nlohmann::ordered_json;

// Bytes read and written per nanosecond by copies within the device.
double CopyRate(Backend& backend, const Clock& clock) {
  constexpr int64_t kBytes = int64_t{1} << 30;
  const Buffer from = Unwrap(backend.Allocate(kBytes)), to = Unwrap(backend.Allocate(kBytes));
  double best = 0;
  for (int i = 0; i < 5; ++i) {
    if (auto s = backend.Record()->Wait(clock, Deadline::Infinite()); !s.ok()) Die(s);
    const absl::Time begin = clock.Now();
    for (int copy = 0; copy < 10; ++copy) backend.Copy(to.data(), from.data(), kBytes);
    if (auto s = backend.Record()->Wait(clock, Deadline::Infinite()); !s.ok()) Die(s);
    best = std::max(best, 20.0 * kBytes / absl::ToDoubleNanoseconds(clock.Now() - begin));
  }
  return best;
}

class Engine {
 public:
  Engine(const std::string& config, int max_batch, int64_t kv_bytes, int64_t max_context) {
    ModelRanks::Options load{.model_dir = config,
                             .types = DType::kBf16,
                             .clock = &clock_,
                             .log_progress = true,
                             .random_weights = true};
    if (auto s = UseCuda(load); !s.ok()) Die(s);
    ranks_ = Unwrap(LoadModelRanks(load));
    copy_rate_ = CopyRate(backend(), clock_);
    PagedKv::Options kv{.shape = ranks_->config.shape, .backends = {&backend()}};
    kv.zero_freed = false;
    const int64_t block_bytes = PagedKv::BlockBytes(kv.shape, 1, kv.block_size, 2);
    kv.num_blocks = kv_bytes / block_bytes;
    kv_ = Unwrap(PagedKv::Create(kv));
    FillWithNoise(kv.num_blocks * block_bytes / 2);
    TensorParallelDecode::Options options{
        .kv = kv_.get(), .clock = &clock_, .max_batch = max_batch, .max_context = max_context};
    options.parts = ranks_->parts();
    engine_ = Unwrap(TensorParallelDecode::Create(options));
  }
  CudaBackend& backend() { return static_cast<CudaBackend&>(*ranks_->backends[0]); }
  const ModelShape& shape() const { return ranks_->config.shape; }
  double copy_rate() const { return copy_rate_; }

  // What a step reads of the weights: all but the embedding.
  double WeightBytes() const {
    const ModelShape& s = shape();
    const double attention =
        2.0 * s.hidden * s.head_dim * (s.num_q_heads + s.num_kv_heads);  // q and o, k and v
    const double mlp = 3.0 * s.hidden * s.intermediate;
    return 2.0 * (s.num_layers * (attention + mlp) + 1.0 * s.vocab_size * s.hidden);
  }

  // Null when the KV does not fit.
  Json Measure(int64_t batch, int64_t tokens, const std::string& policy, double keep, int steps) {
    SelectionConfig profile = DefaultSelectionConfig(shape());
    profile.min_prompt_tokens = profile.min_kept_tokens = 0;
    const SelectionConfig selection =
        Unwrap(ResolveSelectionConfig(profile, {.policy = policy, .keep_ratio = keep}, shape()));
    const KvPlan plan = MakePrefillPlan(shape(), selection, tokens).kv;
    constexpr int kWarmUp = 5;
    std::vector<int64_t> handles;
    for (int64_t i = 0; i < batch; ++i) {
      const auto handle = kv_->Reserve(plan, kWarmUp + steps + 2);
      if (!handle.ok()) break;
      handles.push_back(*handle);
    }
    Json json;
    if (static_cast<int64_t>(handles.size()) == batch) {
      std::mt19937 random(1);
      const SamplingParams greedy;
      std::vector<double> times;
      std::map<std::string, double> ops;
      for (int step = 0; step <= kWarmUp + steps; ++step) {
        std::vector<DecodeStepItem> items;
        for (const int64_t handle : handles) {
          items.push_back({.handle = handle,
                           .token = static_cast<int32_t>(random() % 128000),
                           .position = tokens + step,
                           .entries_added = step,
                           .sampling = &greedy,
                           .sample_index = step + 1});
        }
        const bool is_extra = step == kWarmUp + steps;  // call by call, for the times of ops
        backend().TimeOps(is_extra);
        const absl::Time begin = clock_.Now();
        Unwrap(engine_->Step(items));
        if (is_extra) {
          ops = backend().TakeOpTimes();
          break;
        }
        if (step >= kWarmUp) times.push_back(absl::ToDoubleMilliseconds(clock_.Now() - begin));
      }
      std::nth_element(times.begin(), times.begin() + times.size() / 2, times.end());
      const double ms = times[times.size() / 2];
      double entries = 0;
      for (int layer = 0; layer < plan.num_layers; ++layer) {
        entries += plan.entries(layer) + kWarmUp + steps / 2.0;
      }
      const double bytes =
          WeightBytes() + entries * batch * 4.0 * plan.num_kv_heads * plan.head_dim;
      json = {{"batch", batch},
              {"prompt_tokens", tokens},
              {"policy", policy},
              {"ms", ms},
              {"tokens_per_s", batch / ms * 1e3},
              {"read_gb", bytes * 1e-9},
              {"share", bytes / copy_rate_ * 1e-6 / ms},
              {"op_ms", ops}};
    }
    for (const int64_t handle : handles) kv_->Free(handle);
    return json;
  }

 private:
  void FillWithNoise(int64_t bytes) {
    std::vector<Bf16> noise(int64_t{32} << 20);
    std::mt19937 random(3);
    for (Bf16& x : noise) x = FromFloat<Bf16>(static_cast<float>(random() % 2000) * 1e-3f - 1.0f);
    const auto size = static_cast<int64_t>(noise.size() * sizeof(Bf16));
    for (void* pool : {kv_->k_blocks(0), kv_->v_blocks(0)}) {
      for (int64_t at = 0; at < bytes; at += size) {
        const size_t width = std::min(size, bytes - at);
        backend().WriteNow(static_cast<std::byte*>(pool) + at, width, noise.data(), width, width,
                           1);
      }
    }
  }

  RealClock clock_;
  std::unique_ptr<ModelRanks> ranks_;
  double copy_rate_ = 0;
  std::unique_ptr<PagedKv> kv_;
  std::unique_ptr<TensorParallelDecode> engine_;
};

int Main() {
  std::vector<int64_t> batches;
  for (const std::string& text : absl::GetFlag(FLAGS_batch)) {
    if (!absl::SimpleAtoi(text, &batches.emplace_back())) {
      Die(absl::InvalidArgumentError("--batch: not a number: " + text));
    }
  }
  cudaDeviceProp properties;
  if (cudaGetDeviceProperties(&properties, 0) != cudaSuccess) {
    Die(absl::UnavailableError("no GPU here"));
  }
  const int64_t tokens = absl::GetFlag(FLAGS_tokens);
  const int steps = absl::GetFlag(FLAGS_steps);
  Engine engine(absl::GetFlag(FLAGS_config),
                static_cast<int>(*std::max_element(batches.begin(), batches.end())),
                absl::GetFlag(FLAGS_kv_gib) << 30, tokens + steps + 64);
  Json json = {{"device", properties.name},
               {"commit", WINNOW_COMMIT},
               {"copy_gb_s", engine.copy_rate()},
               {"steps", Json::array()}};
  for (const std::string policy : {"full", "claa"}) {
    for (const int64_t batch : batches) {
      const Json step = engine.Measure(batch, tokens, policy, absl::GetFlag(FLAGS_keep), steps);
      std::fprintf(stderr, "%s, batch %ld: %s\n", policy.c_str(), static_cast<long>(batch),
                   step.is_null() ? "the KV does not fit" : step.dump().c_str());
      if (!step.is_null()) json["steps"].push_back(step);
    }
  }
  std::printf("%s\n", json.dump().c_str());
  return 0;
}

}  // namespace
}  // namespace winnow

int main(int argc, char** argv) {
  winnow::ParseProgramFlags(argc, argv,
                            "Decode steps on a GPU, against the bytes that they must read. Prints "
                            "a JSON object.");
  return winnow::Main();
}
