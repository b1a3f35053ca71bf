#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "google/protobuf/repeated_field.h"
#include "plan/ledger.h"
#include "plan/model_shape.h"
#include "plan/sampling_params.h"
#include "plan/selection_config.h"
#include "winnow/v1/prefill.pb.h"
#include "winnow/v1/selection.pb.h"

namespace winnow {

// The only conversion between plan values and their messages; KV plans: wire/kv_plan_proto.h.
// ToProto never fails; FromProto checks everything that the message alone can show and returns
// INVALID_ARGUMENT with field, expected and got. FromProto(ToProto(x)) == x.

v1::PositionSpan ToProto(const PositionSpan& span);
v1::SelectionConfig ToProto(const SelectionConfig& config);
v1::Ledger ToProto(const Ledger& ledger);
v1::StageTimes ToProto(const StageTimes& times);
v1::ResolvedSampling ToProto(const SamplingParams& params);

// A request's wishes, unchecked: ResolveSelectionConfig judges them. `explain` is left to the
// caller.
SelectionOverrides FromProto(const v1::SelectionOptions& options);

// Goes through ResolveSelectionConfig. Without a shape (a router knows none) the layers are only
// checked against each other.
absl::StatusOr<SelectionConfig> FromProto(const v1::SelectionConfig& config);
absl::StatusOr<SelectionConfig> FromProto(const v1::SelectionConfig& config,
                                          const ModelShape& shape);

Ledger FromProto(const v1::Ledger& ledger);
StageTimes FromProto(const v1::StageTimes& times);
absl::StatusOr<SamplingParams> FromProto(const v1::ResolvedSampling& sampling);

// Ascending positions as `kept_position_deltas` carries them: the first as it is, every other as
// the difference from the one before. REQUIRES: positions ≥ 0 and strictly ascending.
void EncodePositionDeltas(absl::Span<const int32_t> positions,
                          google::protobuf::RepeatedField<uint32_t>* deltas);
// Its inverse. INVALID_ARGUMENT: a difference of 0, or a position beyond int32.
absl::StatusOr<std::vector<int32_t>> DecodePositionDeltas(
    const google::protobuf::RepeatedField<uint32_t>& deltas);

}  // namespace winnow
