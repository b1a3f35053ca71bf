#include "transfer/handoff_checks.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "transfer/chunk_codec.h"

namespace winnow {
namespace {

absl::Status CheckCommitTokens(const CommitParams& params, int max_tokens, int vocab_size) {
  const auto num_tokens = static_cast<int64_t>(params.tokens.size());
  if (num_tokens < 1 || num_tokens >= max_tokens || params.sampling.max_tokens != max_tokens) {
    return absl::DataLossError(absl::StrCat("commit: ", num_tokens, " tokens and max_tokens ",
                                            params.sampling.max_tokens,
                                            ", but room was reserved for max_tokens ", max_tokens));
  }
  for (int32_t token : params.tokens) {
    if (token < 0 || token >= vocab_size) {
      return absl::DataLossError(
          absl::StrCat("commit: token id ", token, " is outside the vocabulary"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckReserveIdentity(const TransferIdentity& identity,
                                  const std::string& layout_digest, uint64_t incarnation) {
  if (identity.wire_version < kOldestWireVersion || identity.wire_version > kWireVersion) {
    return absl::FailedPreconditionError(absl::StrCat("reserve: wire version must be in [",
                                                      kOldestWireVersion, ", ", kWireVersion,
                                                      "], got ", identity.wire_version));
  }
  if (identity.layout_digest != layout_digest) {
    return absl::FailedPreconditionError(
        absl::StrCat("reserve: layout digest must be ", layout_digest, ", got ",
                     identity.layout_digest, " (another model, dtype or shape)"));
  }
  if (identity.target_incarnation != 0 && identity.target_incarnation != incarnation) {
    return absl::FailedPreconditionError(
        absl::StrCat("reserve: this worker is incarnation ", incarnation, ", not ",
                     identity.target_incarnation, ": it restarted"));
  }
  return absl::OkStatus();
}

absl::Status CheckReservePlan(const ReserveParams& params, const ModelShape& shape,
                              int max_streams) {
  const KvPlan& plan = params.plan;
  if (plan.num_layers != shape.num_layers || plan.num_kv_heads != shape.num_kv_heads ||
      plan.head_dim != shape.head_dim) {
    return absl::InvalidArgumentError(
        absl::StrCat("reserve: the plan is for ", plan.num_layers, " layers, ", plan.num_kv_heads,
                     " KV heads of ", plan.head_dim, ", the model has ", shape.num_layers, ", ",
                     shape.num_kv_heads, ", ", shape.head_dim));
  }
  const int64_t first = std::max(plan.num_prompt_tokens, plan.next_position);
  const bool tokens_ok = plan.num_prompt_tokens >= 1 && params.max_tokens >= 1 &&
                         first + params.max_tokens - 1 <= shape.max_context;
  if (!tokens_ok) {
    return absl::InvalidArgumentError(
        absl::StrCat("reserve: prompt tokens + max_tokens - 1 must be in [1, ", shape.max_context,
                     "], got ", plan.num_prompt_tokens, " + ", params.max_tokens, " - 1"));
  }
  if (params.num_streams < 1 || params.num_streams > max_streams) {
    return absl::InvalidArgumentError(absl::StrCat("reserve: streams must be in [1, ", max_streams,
                                                   "], got ", params.num_streams));
  }
  return absl::OkStatus();
}

absl::Status CheckOwner(const TransferIdentity& owner, const TransferIdentity& caller) {
  if (caller.source_incarnation != owner.source_incarnation ||
      caller.request_id != owner.request_id ||
      caller.target_incarnation != owner.target_incarnation ||
      caller.layout_digest != owner.layout_digest || caller.wire_version != owner.wire_version) {
    return absl::FailedPreconditionError(
        "reservation: the caller is not the prefill worker that reserved");
  }
  if (caller.attempt != owner.attempt) {
    return absl::FailedPreconditionError(
        absl::StrCat("reservation: expected attempt ", owner.attempt, ", got ", caller.attempt));
  }
  return absl::OkStatus();
}

absl::Status CheckCommitTerms(const CommitParams& params, const KvPlan& plan, int max_tokens,
                              int vocab_size) {
  if (params.num_prompt_tokens != plan.num_prompt_tokens ||
      params.next_position != plan.next_position) {
    return absl::DataLossError(absl::StrCat(
        "commit: expected ", plan.num_prompt_tokens, " prompt tokens and next position ",
        plan.next_position, ", got ", params.num_prompt_tokens, " and ", params.next_position));
  }
  if (absl::Status tokens = CheckCommitTokens(params, max_tokens, vocab_size); !tokens.ok()) {
    return tokens;
  }
  if (static_cast<int>(params.entries_per_layer.size()) != plan.num_layers) {
    return absl::DataLossError(absl::StrCat("commit: expected entries of ", plan.num_layers,
                                            " layers, got ", params.entries_per_layer.size()));
  }
  for (int layer = 0; layer < plan.num_layers; ++layer) {
    if (params.entries_per_layer[layer] == plan.entries(layer)) continue;
    return absl::DataLossError(absl::StrCat("commit: layer ", layer, " has ",
                                            params.entries_per_layer[layer], " entries, ",
                                            plan.entries(layer), " were reserved"));
  }
  return absl::OkStatus();
}

}  // namespace winnow
