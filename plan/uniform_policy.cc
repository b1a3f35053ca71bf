// A baseline that looks at nothing: the first tokens, the last ones, and a random sample between,
// chosen before layer 0. What a policy keeps beyond it, it owes to its scores.
#include <algorithm>
#include <random>

#include "plan/kept_tokens.h"
#include "plan/policy.h"
#include "plan/prefill_plan.h"
#include "plan/selection_config.h"

namespace winnow {
namespace {

constexpr int64_t kHead = 64;
constexpr int64_t kTail = 256;
// The same sample for every prompt of a length, so that all ranks, and a retry, choose alike.
constexpr uint32_t kSeed = 20260216;

absl::Status Check(const SelectionConfig&, const ModelShape&) { return absl::OkStatus(); }

SelectionConfig WithHead(SelectionConfig config) {
  config.protected_prefix = std::max(config.protected_prefix, kHead);
  return config;
}

// The kept rows alone through all layers, at their positions of the prompt.
PrefillPlan MakePlan(const ModelShape& shape, const SelectionConfig& config,
                     int64_t num_prompt_tokens) {
  const int64_t kept = NumKept(WithHead(config), num_prompt_tokens, kTail);
  if (num_prompt_tokens <= kept || num_prompt_tokens < config.min_prompt_tokens) {
    return UnprunedPlan(shape, num_prompt_tokens);
  }
  PrefillPlan plan = UnprunedPlan(shape, num_prompt_tokens);
  plan.kv.tail_begin = num_prompt_tokens - kTail;
  plan.kv.segments = {{shape.num_layers, KvForm::kSelected, kept}};
  plan.passes[0].is_selected = true;
  plan.passes[0].num_rows = kept;
  return plan;
}

std::vector<int32_t> ChooseRows(const SelectionConfig& config, const PrefillPlan& plan) {
  const int64_t end = plan.kv.tail_begin, kept = plan.passes[0].num_rows;
  std::vector<bool> is_kept(plan.kv.num_prompt_tokens, false);
  std::fill(is_kept.begin() + end, is_kept.end(), true);
  for (const PositionSpan& span : ProtectedSpans(WithHead(config), end)) {
    std::fill(is_kept.begin() + span.begin, is_kept.begin() + span.end, true);
  }
  std::vector<int32_t> rows, rest;
  for (int32_t row = 0; row < plan.kv.num_prompt_tokens; ++row) {
    (is_kept[row] ? rows : rest).push_back(row);
  }
  // std::sample and the distributions differ between libraries; the engine's numbers do not.
  std::mt19937 random(kSeed);
  for (size_t left = rest.size(); static_cast<int64_t>(rows.size()) < kept; --left) {
    const size_t pick = random() % left;
    rows.push_back(rest[pick]);
    std::swap(rest[pick], rest[left - 1]);
  }
  std::sort(rows.begin(), rows.end());
  return rows;
}

}  // namespace

const Policy kUniformPolicy{.name = "uniform",
                            .summary =
                                "keeps the first 64 tokens, the last 256 and a random sample "
                                "of the others: a baseline",
                            .check = Check,
                            .make_plan = MakePlan,
                            .choose_rows = ChooseRows};

}  // namespace winnow
