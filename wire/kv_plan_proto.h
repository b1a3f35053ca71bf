#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "plan/kv_plan.h"
#include "winnow/v1/selection.pb.h"

namespace winnow {

// The only conversion of KV plans. Since wire version 3 a message carries the plan's segments; for
// plans that version 2 could say it carries that version's fields, too, so that both builds read
// the message.
v1::KvPlan ToProto(const KvPlan& plan);

// Refuses a plan that contradicts itself, or whose byte counts would not fit 64 bits:
// INVALID_ARGUMENT with field, expected and got. Whether the plan fits the model is the caller's to
// check (num_layers, num_kv_heads, head_dim). FromProto(ToProto(x)) == x.
absl::StatusOr<KvPlan> FromProto(const v1::KvPlan& plan);

// The oldest wire version that can say `plan`.
uint32_t OldestWireVersionFor(const KvPlan& plan);

}  // namespace winnow
