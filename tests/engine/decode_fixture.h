#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine/comm/forwarding_communicator.h"
#include "engine/ranks/model_ranks.h"
#include "engine/tensor_parallel_decode.h"
#include "gtest/gtest.h"
#include "tests/engine/goldens.h"
#include "tests/engine/prefill_fixture.h"

namespace winnow {

inline const SamplingParams kGreedy{};

// Calls the inner one until it is told to misbehave.
class FaultyCommunicator final : public ForwardingCommunicator {
 public:
  FaultyCommunicator(Communicator& inner, const Clock& clock)
      : ForwardingCommunicator(inner), clock_(clock) {}
  absl::Status AllReduceSum(void* data, DType dtype, int64_t count, Deadline deadline) override {
    if (calls_until_failure > 0 && --calls_until_failure == 0)
      return absl::DataLossError("broken link");
    if (late) LetPass(deadline);
    return ForwardingCommunicator::AllReduceSum(data, dtype, count, deadline);
  }

  int calls_until_failure = 0;  // 0: never
  bool late = false;            // comes when the deadline has passed

 private:
  void LetPass(Deadline deadline) const {
    std::mutex mutex;
    std::unique_lock<std::mutex> lock(mutex);
    std::condition_variable nobody;
    while (!deadline.HasPassed(clock_)) {
      clock_.WaitFor(nobody, lock, deadline.Remaining(clock_), [] { return false; });
    }
  }

  const Clock& clock_;
};

// A model's decode engine on T ranks; the last rank's communicator can fail.
struct Decoder {
  explicit Decoder(int tensor_parallel, DType dtype = DType::kF32, int max_batch = 8,
                   absl::Duration step_timeout = absl::Seconds(60),
                   const std::string& model_dir = PrefillFixture::DemoModel(),
                   const std::function<absl::Status(ModelRanks::Options&)>& use_device = nullptr) {
    ModelRanks::Options load{.model_dir = model_dir,
                             .types = dtype,
                             .tensor_parallel = tensor_parallel,
                             .threads_per_rank = 1,
                             .clock = &clock};
    if (use_device) {
      EXPECT_EQ(use_device(load), absl::OkStatus());
    }
    auto loaded = LoadModelRanks(load);
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    ranks = *std::move(loaded);
    PagedKv::Options kv_options{.shape = ranks->config.shape, .num_blocks = 5000};
    for (const auto& backend : ranks->backends) kv_options.backends.push_back(backend.get());
    kv = *PagedKv::Create(kv_options);
    TensorParallelDecode::Options options{
        .kv = kv.get(), .clock = &clock, .max_batch = max_batch, .step_timeout = step_timeout};
    options.parts = ranks->parts();
    faulty = std::make_unique<FaultyCommunicator>(*options.parts.ranks.back().communicator, clock);
    options.parts.ranks.back().communicator = faulty.get();
    auto made = TensorParallelDecode::Create(options);
    EXPECT_TRUE(made.ok()) << made.status();
    engine = *std::move(made);
  }

  // Reserves and copies a prefill's KV, as the transfer would.
  int64_t Take(const PrefillFixture::Run& run, int max_tokens) {
    const KvPlan& plan = run.staging->plan;
    const auto handle = kv->Reserve(plan, max_tokens - 1);
    EXPECT_TRUE(handle.ok()) << handle.status();
    for (const KvStaging::Rank& rank : run.staging->ranks) {
      if (!rank.heads.ships_kv) continue;
      for (int layer = 0; layer < plan.num_layers; ++layer) {
        for (int head = 0; head < rank.heads.kv_count; ++head) {
          const auto write = [&](bool is_value, int64_t offset) {
            kv->Write(*handle, layer, is_value, rank.heads.kv_begin + head, 0, plan.entries(layer),
                      static_cast<const std::byte*>(rank.at(offset)));
          };
          write(false, rank.layout.key_offset(layer, head, 0));
          write(true, rank.layout.value_offset(layer, head, 0));
        }
      }
    }
    return *handle;
  }

  RealClock clock;
  std::unique_ptr<ModelRanks> ranks;
  std::unique_ptr<PagedKv> kv;
  std::unique_ptr<FaultyCommunicator> faulty;
  std::unique_ptr<TensorParallelDecode> engine;
};

// A sequence on its way: what enters next follows from what was made.
struct Generation {
  int64_t handle = 0;
  int64_t prompt = 0;
  std::vector<int32_t> tokens;
  int64_t steps = 0;

  DecodeStepItem Next(const SamplingParams* sampling = &kGreedy) const {
    return {.handle = handle,
            .token = tokens[steps],
            .position = prompt + steps,
            .entries_added = steps,
            .sampling = sampling,
            .sample_index = steps + 1};
  }
};

inline Generation Start(PrefillFixture& prefill, Decoder& decoder, const std::vector<int32_t>& ids,
                        const SelectionOverrides& selection, int max_tokens) {
  const auto run = prefill.Prefill(ids, selection);
  EXPECT_TRUE(run.ok()) << run.status();
  return {decoder.Take(*run, max_tokens),
          static_cast<int64_t>(ids.size()),
          {ArgMax(run->output.logits)}};
}

// Runs all of them in one batch until each has `count` tokens.
inline void Generate(Decoder& decoder, std::vector<Generation*> generations, size_t count) {
  while (true) {
    std::vector<DecodeStepItem> items;
    std::vector<Generation*> active;
    for (Generation* g : generations) {
      if (g->tokens.size() >= count) continue;
      items.push_back(g->Next());
      active.push_back(g);
    }
    if (items.empty()) return;
    const auto drawn = decoder.engine->Step(items);
    ASSERT_TRUE(drawn.ok()) << drawn.status();
    for (size_t i = 0; i < active.size(); ++i) {
      ++active[i]->steps;
      active[i]->tokens.push_back((*drawn)[i]);
    }
  }
}

}  // namespace winnow
