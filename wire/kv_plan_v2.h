#pragma once

#include "absl/status/statusor.h"
#include "plan/kv_plan.h"
#include "winnow/v1/selection.pb.h"

namespace winnow {

// KV plans as wire version 2 says them: nothing pruned, or the layers of one selection. Goes with
// the version.

// Whether version 2 can say `plan`.
bool HasV2Form(const KvPlan& plan);
// Sets version 2's fields. REQUIRES: HasV2Form(plan).
void AddV2Fields(const KvPlan& plan, v1::KvPlan* message);
// `plan` has the fields that both versions share; its segments are made from version 2's.
// INVALID_ARGUMENT: the fields contradict each other.
absl::StatusOr<KvPlan> ReadV2Fields(const v1::KvPlan& message, KvPlan plan);

}  // namespace winnow
