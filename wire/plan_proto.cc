#include "wire/plan_proto.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "wire/field_checks.h"

namespace winnow {
namespace {

template <typename Spans>
std::vector<PositionSpan> SpansFromProto(const Spans& spans) {
  std::vector<PositionSpan> out;
  out.reserve(spans.size());
  for (const v1::PositionSpan& span : spans) out.push_back({span.begin(), span.end()});
  return out;
}

v1::Ledger::Segment ToProto(const Ledger::Segment& segment) {
  v1::Ledger::Segment out;
  out.set_layers(segment.layers);
  out.set_entries_kept(segment.entries_kept);
  out.set_entries_pruned(segment.entries_pruned);
  return out;
}

Ledger::Segment FromProto(const v1::Ledger::Segment& segment) {
  return {segment.layers(), segment.entries_kept(), segment.entries_pruned()};
}

}  // namespace

v1::PositionSpan ToProto(const PositionSpan& span) {
  v1::PositionSpan out;
  out.set_begin(span.begin);
  out.set_end(span.end);
  return out;
}

v1::SelectionConfig ToProto(const SelectionConfig& config) {
  v1::SelectionConfig out;
  out.set_policy(config.policy->name);
  out.set_window(config.window);
  out.set_window_offset(config.window_offset);
  out.set_pool_kernel(config.pool_kernel);
  out.set_aggregate_layers(config.aggregate_layers);
  out.set_uncompacted_layers(config.uncompacted_layers);
  out.set_selection_layer(config.selection_layer);
  out.set_keep_ppm(config.keep_ppm);
  out.set_min_prompt_tokens(config.min_prompt_tokens);
  out.set_min_kept_tokens(config.min_kept_tokens);
  out.set_protected_prefix(config.protected_prefix);
  for (const PositionSpan& span : config.protected_spans)
    *out.add_protected_spans() = ToProto(span);
  return out;
}

SelectionOverrides FromProto(const v1::SelectionOptions& options) {
  SelectionOverrides out;
  if (options.has_policy()) out.policy = options.policy();
  if (options.has_keep_ratio()) out.keep_ratio = options.keep_ratio();
  if (options.has_min_prompt_tokens()) out.min_prompt_tokens = options.min_prompt_tokens();
  if (options.has_min_kept_tokens()) out.min_kept_tokens = options.min_kept_tokens();
  out.protected_spans = SpansFromProto(options.protected_spans());
  return out;
}

absl::StatusOr<SelectionConfig> FromProto(const v1::SelectionConfig& config) {
  ModelShape deep_enough;
  constexpr int kMostLayers = 1 << 16;
  deep_enough.num_layers = kMostLayers;
  return FromProto(config, deep_enough);
}

absl::StatusOr<SelectionConfig> FromProto(const v1::SelectionConfig& config,
                                          const ModelShape& shape) {
  SelectionOverrides all;  // every field set, so that every field is checked
  all.policy = config.policy();
  all.window = config.window();
  all.window_offset = config.window_offset();
  all.pool_kernel = config.pool_kernel();
  all.aggregate_layers = config.aggregate_layers();
  all.uncompacted_layers = config.uncompacted_layers();
  all.selection_layer = config.selection_layer();
  all.keep_ppm = config.keep_ppm();
  all.min_prompt_tokens = config.min_prompt_tokens();
  all.min_kept_tokens = config.min_kept_tokens();
  all.protected_prefix = config.protected_prefix();
  all.protected_spans = SpansFromProto(config.protected_spans());
  return ResolveSelectionConfig(SelectionConfig(), all, shape);
}

v1::Ledger ToProto(const Ledger& ledger) {
  v1::Ledger out;
  out.set_prompt_tokens(ledger.prompt_tokens);
  out.set_kept_tokens(ledger.kept_tokens);
  out.set_computed_token_layers(ledger.computed_token_layers);
  *out.mutable_all() = ToProto(ledger.all);
  *out.mutable_per_head() = ToProto(ledger.per_head);
  *out.mutable_selected() = ToProto(ledger.selected);
  out.set_kv_bytes_full(ledger.kv_bytes_full);
  out.set_kv_bytes_shipped(ledger.kv_bytes_shipped);
  return out;
}

Ledger FromProto(const v1::Ledger& ledger) {
  Ledger out;
  out.prompt_tokens = ledger.prompt_tokens();
  out.kept_tokens = ledger.kept_tokens();
  out.computed_token_layers = ledger.computed_token_layers();
  out.all = FromProto(ledger.all());
  out.per_head = FromProto(ledger.per_head());
  out.selected = FromProto(ledger.selected());
  out.kv_bytes_full = ledger.kv_bytes_full();
  out.kv_bytes_shipped = ledger.kv_bytes_shipped();
  return out;
}

v1::StageTimes ToProto(const StageTimes& times) {
  v1::StageTimes out;
  out.set_tokenize(times.tokenize);
  out.set_admit(times.admit);
  out.set_dispatch(times.dispatch);
  out.set_queue(times.queue);
  out.set_reserve_wait(times.reserve_wait);
  out.set_full_layers(times.full_layers);
  out.set_score(times.score);
  out.set_allreduce(times.allreduce);
  out.set_select(times.select);
  out.set_pruned_layers(times.pruned_layers);
  out.set_head(times.head);
  out.set_relay(times.relay);
  return out;
}

StageTimes FromProto(const v1::StageTimes& times) {
  StageTimes out;
  out.tokenize = times.tokenize();
  out.admit = times.admit();
  out.dispatch = times.dispatch();
  out.queue = times.queue();
  out.reserve_wait = times.reserve_wait();
  out.full_layers = times.full_layers();
  out.score = times.score();
  out.allreduce = times.allreduce();
  out.select = times.select();
  out.pruned_layers = times.pruned_layers();
  out.head = times.head();
  out.relay = times.relay();
  return out;
}

v1::ResolvedSampling ToProto(const SamplingParams& params) {
  v1::ResolvedSampling out;
  out.set_temperature(params.temperature);
  out.set_top_k(params.top_k);
  out.set_top_p(params.top_p);
  out.set_seed(params.seed);
  out.set_max_tokens(params.max_tokens);
  out.mutable_stop_token_ids()->Assign(params.stop_token_ids.begin(), params.stop_token_ids.end());
  return out;
}

absl::StatusOr<SamplingParams> FromProto(const v1::ResolvedSampling& sampling) {
  SamplingParams out;
  out.temperature = sampling.temperature();
  out.top_k = sampling.top_k();
  out.top_p = sampling.top_p();
  out.seed = sampling.seed();
  out.max_tokens = sampling.max_tokens();
  out.stop_token_ids.assign(sampling.stop_token_ids().begin(), sampling.stop_token_ids().end());

  constexpr int64_t kMaxInt32 = std::numeric_limits<int32_t>::max();
  if (!(std::isfinite(out.temperature) && out.temperature >= 0)) {
    return absl::InvalidArgumentError(
        absl::StrCat("sampling.temperature must be finite and >= 0, got ", out.temperature));
  }
  if (!(out.top_p > 0 && out.top_p <= 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("sampling.top_p must be in (0, 1], got ", out.top_p));
  }
  WINNOW_RETURN_IF_ERROR(CheckFieldRange("sampling.top_k", out.top_k, 0, kMaxInt32));
  WINNOW_RETURN_IF_ERROR(CheckFieldRange("sampling.max_tokens", out.max_tokens, 1, kMaxInt32));
  for (int32_t id : out.stop_token_ids) {
    WINNOW_RETURN_IF_ERROR(CheckFieldRange("sampling.stop_token_ids", id, 0, kMaxInt32));
  }
  return out;
}

void EncodePositionDeltas(absl::Span<const int32_t> positions,
                          google::protobuf::RepeatedField<uint32_t>* deltas) {
  deltas->Clear();
  deltas->Reserve(static_cast<int>(positions.size()));
  int32_t previous = 0;
  for (int32_t position : positions) {
    deltas->Add(static_cast<uint32_t>(position - previous));
    previous = position;
  }
}

absl::StatusOr<std::vector<int32_t>> DecodePositionDeltas(
    const google::protobuf::RepeatedField<uint32_t>& deltas) {
  std::vector<int32_t> positions;
  positions.reserve(deltas.size());
  int64_t position = 0;
  for (int i = 0; i < deltas.size(); ++i) {
    position += deltas[i];
    if ((i > 0 && deltas[i] == 0) || position > std::numeric_limits<int32_t>::max()) {
      return absl::InvalidArgumentError(absl::StrCat("position deltas: entry ", i, " = ", deltas[i],
                                                     " does not lead to a later int32 position"));
    }
    positions.push_back(static_cast<int32_t>(position));
  }
  return positions;
}

}  // namespace winnow
