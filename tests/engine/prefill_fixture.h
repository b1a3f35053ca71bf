#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/ranks/model_ranks.h"
#include "engine/tensor_parallel_prefill.h"

namespace winnow {

// A model, the demo's unless told otherwise, on T ranks of a host backend, with everything a
// prefill needs.
class PrefillFixture {
 public:
  static std::string DemoModel();

  struct Options {
    std::string model_dir = DemoModel();
    int tensor_parallel = 1;
    DType dtype = DType::kF32;
    bool reference_ops = false;  // _ref ops (slow, for sanitizers) instead of the CPU's
    // Chooses another device than the CPU.
    std::function<absl::Status(ModelRanks::Options&)> use_device;
    int64_t max_step_rows = 1024;
    absl::Duration step_timeout = absl::Seconds(120);
    // Wraps a rank's communicator, to make it fail or be late.
    std::function<std::unique_ptr<Communicator>(int rank, Communicator& inner)> wrap;
    // Other selectors than the policies'; must outlive the fixture.
    const SelectorFactory* selectors = nullptr;
  };
  explicit PrefillFixture(const Options& options);

  struct Run {
    PrefillOutput output;
    std::shared_ptr<KvStaging> staging;
  };
  // Computes one prompt in chunks of `chunk` rows (0: as many as fit).
  absl::StatusOr<Run> Prefill(const std::vector<int32_t>& ids, const SelectionOverrides& overrides,
                              int64_t chunk = 0);

  TensorParallelPrefill& engine() { return *engine_; }
  Backend& backend() { return *ranks_->backends[0]; }  // of rank 0
  const ModelConfig& config() const { return ranks_->config; }
  // The model's selection profile, without its guard rails.
  SelectionConfig Resolve(const SelectionOverrides& overrides) const;

 private:
  RealClock clock_;
  const std::string model_dir_;
  std::unique_ptr<ModelRanks> ranks_;
  std::vector<std::unique_ptr<Communicator>> wrapped_;
  std::unique_ptr<TensorParallelPrefill> engine_;
};

// A golden case of tests/golden/demo, from Hugging Face transformers and an eager float32 CLAA.
struct GoldenCase {
  std::vector<int32_t> ids;
  std::vector<int32_t> full_tokens;
  std::vector<float> first_token_logits;
  std::vector<float> selection_scores;
  struct Claa {
    double keep_ratio = 0;
    std::vector<int32_t> tokens;
    std::vector<int32_t> kept_positions;
  };
  std::vector<Claa> claa;
};
GoldenCase LoadGoldenCase(int index);

// Positions in which two selections of `kept` differ although the score is further than `tolerance`
// from the last one chosen by score.
std::vector<int32_t> DifferencesAwayFromTheCut(const std::vector<int32_t>& a,
                                               const std::vector<int32_t>& b,
                                               const std::vector<float>& scores, double tolerance);

}  // namespace winnow
