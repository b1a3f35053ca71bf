#include "client/cli/load_plan.h"

#include <cmath>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/status_macros.h"

namespace winnow {
namespace {

// `read` turns the part before the colon into a value; false: it is none.
template <typename T, typename Read>
absl::StatusOr<Mix<T>> ParseMix(const std::string& text, const char* kind, Read read) {
  Mix<T> mix;
  const std::vector<std::string> parts = absl::StrSplit(text, ',');
  for (const std::string& part : parts) {
    const std::vector<std::string> pair = absl::StrSplit(part, absl::MaxSplits(':', 1));
    T value{};
    double weight = 1;
    const bool ok = read(pair[0], &value) &&
                    (pair.size() == 1 ||
                     (absl::SimpleAtod(pair[1], &weight) && std::isfinite(weight) && weight > 0));
    if (!ok) {
      return absl::InvalidArgumentError(
          absl::StrCat("expected ", kind, " or ", kind, ":WEIGHT, got '", part, "'"));
    }
    mix.values.push_back(value);
    mix.weights.push_back(weight);
  }
  return mix;
}

template <typename T>
T Draw(const Mix<T>& mix, std::mt19937_64& random) {
  return mix
      .values[std::discrete_distribution<size_t>(mix.weights.begin(), mix.weights.end())(random)];
}

}  // namespace

absl::StatusOr<Mix<int64_t>> ParseTokenMix(const std::string& text) {
  return ParseMix<int64_t>(text, "TOKENS", [](const std::string& word, int64_t* value) {
    return absl::SimpleAtoi(word, value) && *value >= 1;
  });
}

absl::StatusOr<Mix<double>> ParseKeepMix(const std::string& text) {
  return ParseMix<double>(text, "KEEP_RATIO", [](const std::string& word, double* value) {
    if (word == "full") {
      *value = 1;
      return true;
    }
    return absl::SimpleAtod(word, value) && *value > 0 && *value <= 1;
  });
}

absl::StatusOr<Arrivals> ParseArrivals(const std::string& text) {
  if (text == "poisson") return Arrivals::kPoisson;
  if (text == "at-once") return Arrivals::kAtOnce;
  if (text == "in-turn") return Arrivals::kInTurn;
  return absl::InvalidArgumentError(
      absl::StrCat("expected poisson, at-once or in-turn, got '", text, "'"));
}

std::vector<PlannedRequest> PlanLoad(const LoadOptions& options) {
  std::mt19937_64 random(options.seed);
  std::exponential_distribution<double> gap(options.rate);
  std::vector<PlannedRequest> plan;
  double at = 0;
  for (int64_t i = 0; i < options.num_requests; ++i) {
    plan.push_back({absl::Seconds(at), Draw(options.prompt_tokens, random),
                    Draw(options.keep_ratios, random), random()});
    if (options.arrivals == Arrivals::kPoisson) at += gap(random);
  }
  return plan;
}

}  // namespace winnow
