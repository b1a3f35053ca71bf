#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace winnow {

// Values and how often each is wanted.
template <typename T>
struct Mix {
  std::vector<T> values;
  std::vector<double> weights;  // of the same size, above 0
};

// "512:3,8192:1", or "512" alone. INVALID_ARGUMENT quotes the part at fault: not a number, below 1,
// a weight that is not above 0.
absl::StatusOr<Mix<int64_t>> ParseTokenMix(const std::string& text);
// "full:1,0.1:3": keep ratios, 1 and "full" being the unpruned policy.
absl::StatusOr<Mix<double>> ParseKeepMix(const std::string& text);

// When the requests of a load are sent.
enum class Arrivals {
  kPoisson,  // at random moments, at a mean rate
  kAtOnce,   // all at the load's beginning
  kInTurn    // each as soon as the one before has been answered
};

// "poisson", "at-once" or "in-turn". INVALID_ARGUMENT for another word.
absl::StatusOr<Arrivals> ParseArrivals(const std::string& text);

// One request of a load.
struct PlannedRequest {
  absl::Duration at;  // since the load began; 0 unless arrivals are a Poisson process
  int64_t prompt_tokens = 0;
  double keep_ratio = 1;  // 1: unpruned
  uint64_t seed = 0;      // of its prompt
};

struct LoadOptions {
  Arrivals arrivals = Arrivals::kPoisson;
  double rate = 1;  // requests a second, on average; of a Poisson process only
  int64_t num_requests = 1;
  Mix<int64_t> prompt_tokens;
  Mix<double> keep_ratios;
  uint64_t seed = 1;
};

// The same for the same options, so that two systems can be asked the same. Ascending in time.
std::vector<PlannedRequest> PlanLoad(const LoadOptions& options);

}  // namespace winnow
