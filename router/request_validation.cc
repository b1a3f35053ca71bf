#include "router/request_validation.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "wire/plan_proto.h"

namespace winnow {
namespace {

absl::Status CheckStops(const v1::SamplingOptions& options, const v1::WorkerInfo& model) {
  if (options.stop_size() > kMaxStopStrings) {
    return absl::InvalidArgumentError(absl::StrCat("sampling: at most ", kMaxStopStrings,
                                                   " stop strings, got ", options.stop_size()));
  }
  if (options.stop_token_ids_size() > kMaxStopIds) {
    return absl::InvalidArgumentError(absl::StrCat(
        "sampling: at most ", kMaxStopIds, " stop token ids, got ", options.stop_token_ids_size()));
  }
  for (const std::string& stop : options.stop()) {
    if (stop.empty()) return absl::InvalidArgumentError("sampling: a stop string is empty");
    if (stop.size() > kMaxStopBytes) {
      return absl::InvalidArgumentError(absl::StrCat("sampling: a stop string has at most ",
                                                     kMaxStopBytes, " bytes, got ", stop.size()));
    }
  }
  for (int32_t id : options.stop_token_ids()) {
    if (id < 0 || id >= model.vocab_size()) {
      return absl::InvalidArgumentError(absl::StrCat("sampling: stop token id must be in [0, ",
                                                     model.vocab_size(), "), got ", id));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckSize(int64_t bytes, int64_t max_bytes) {
  if (bytes <= max_bytes) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("request: at most ", max_bytes, " bytes, got ", bytes));
}

absl::Status CheckEnvelope(const v1::GenerateRequest& request) {
  const std::string& id = request.request_id();
  if (id.size() > kMaxRequestIdBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("request_id: at most ", kMaxRequestIdBytes, " bytes, got ", id.size()));
  }
  if (!std::all_of(id.begin(), id.end(), [](char c) { return c > 0x20 && c < 0x7F; })) {
    return absl::InvalidArgumentError(
        "request_id: expected printable ASCII without spaces, got something else");
  }
  switch (request.prompt_case()) {
    case v1::GenerateRequest::kText:
      if (request.text().empty()) return absl::InvalidArgumentError("prompt: the text is empty");
      return absl::OkStatus();
    case v1::GenerateRequest::kRaw:
      if (request.raw().empty()) return absl::InvalidArgumentError("prompt: the text is empty");
      return absl::OkStatus();
    case v1::GenerateRequest::kTokenIds:
      return absl::OkStatus();  // CheckPrompt sees them
    case v1::GenerateRequest::kChat:
      if (request.chat().messages().empty()) {
        return absl::InvalidArgumentError("prompt: the chat has no messages, it is empty");
      }
      return absl::OkStatus();
    case v1::GenerateRequest::PROMPT_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError("prompt: one of text, raw, token_ids and chat must be set");
}

absl::StatusOr<SamplingParams> ResolveSampling(const v1::SamplingOptions& options,
                                               const v1::WorkerInfo& model, uint64_t seed) {
  SamplingParams params;
  params.temperature = options.has_temperature() ? options.temperature() : 0.0;
  params.top_k = options.has_top_k() ? options.top_k() : 0;
  params.top_p = options.has_top_p() ? options.top_p() : 1.0;
  params.seed = options.has_seed() ? options.seed() : seed;
  params.max_tokens = options.has_max_tokens() ? options.max_tokens() : kDefaultMaxTokens;
  if (!(params.temperature >= 0.0 && std::isfinite(params.temperature))) {
    return absl::InvalidArgumentError(
        absl::StrCat("sampling: temperature must be at least 0, got ", params.temperature));
  }
  if (params.top_k < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("sampling: top_k must be at least 0, got ", params.top_k));
  }
  if (!(params.top_p > 0.0 && params.top_p <= 1.0)) {
    return absl::InvalidArgumentError(
        absl::StrCat("sampling: top_p must be in (0, 1], got ", params.top_p));
  }
  if (params.max_tokens < 1 || params.max_tokens > model.max_context()) {
    return absl::InvalidArgumentError(absl::StrCat("sampling: max_tokens must be in [1, ",
                                                   model.max_context(), "], the context, got ",
                                                   params.max_tokens));
  }
  WINNOW_RETURN_IF_ERROR(CheckStops(options, model));
  params.stop_token_ids.assign(options.stop_token_ids().begin(), options.stop_token_ids().end());
  if (!options.ignore_eos()) {
    params.stop_token_ids.insert(params.stop_token_ids.end(), model.eos_token_ids().begin(),
                                 model.eos_token_ids().end());
  }
  return params;
}

absl::StatusOr<SelectionConfig> ResolveSelection(const v1::SelectionOptions& options,
                                                 const v1::WorkerInfo& model, bool explain_allowed,
                                                 std::optional<int> window_offset) {
  if (options.explain() && !(explain_allowed && model.explain_allowed())) {
    return absl::PermissionDeniedError(
        "selection: explain is off on this server (--allow-explain)");
  }
  if (options.protected_spans_size() > kMaxProtectedSpans) {
    return absl::InvalidArgumentError(absl::StrCat("selection: at most ", kMaxProtectedSpans,
                                                   " protected spans, got ",
                                                   options.protected_spans_size()));
  }
  WINNOW_ASSIGN_OR_RETURN(const SelectionConfig profile, FromProto(model.profile()));
  // The layers are the profile's own and were checked with it, so any depth that holds them will do
  // here.
  ModelShape shape;
  shape.num_layers = profile.selection_layer + 2;
  SelectionOverrides overrides = FromProto(options);
  overrides.window_offset = window_offset;
  return ResolveSelectionConfig(profile, overrides, shape);
}

absl::Status CheckPrompt(const std::vector<int32_t>& ids, const SamplingParams& sampling,
                         const v1::WorkerInfo& model) {
  if (ids.empty()) return absl::InvalidArgumentError("prompt: it is empty");
  const auto num_tokens = static_cast<int64_t>(ids.size());
  if (num_tokens + sampling.max_tokens - 1 > model.max_context()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "prompt: too long: ", num_tokens, " prompt tokens + max_tokens ", sampling.max_tokens,
        " - 1 is more than the context of ", model.max_context(), " tokens"));
  }
  for (int32_t id : ids) {
    if (id < 0 || id >= model.vocab_size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("prompt: token id must be in [0, ", model.vocab_size(), "), got ", id));
    }
  }
  return absl::OkStatus();
}

}  // namespace winnow
