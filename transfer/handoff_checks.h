#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "plan/kv_plan.h"
#include "plan/model_shape.h"
#include "transfer/handoff_messages.h"

namespace winnow {

// The checks of a decode worker on what prefill workers say: pure functions.

// FAILED_PRECONDITION: another wire version, layout, or process than this one.
absl::Status CheckReserveIdentity(const TransferIdentity& identity,
                                  const std::string& layout_digest, uint64_t incarnation);
// INVALID_ARGUMENT: the plan is not for `shape`, or the tokens or streams are out of range.
absl::Status CheckReservePlan(const ReserveParams& params, const ModelShape& shape,
                              int max_streams);
// `owner` made the reservation. FAILED_PRECONDITION: the caller is somebody else.
absl::Status CheckOwner(const TransferIdentity& owner, const TransferIdentity& caller);
// DATA_LOSS: the commit contradicts what was reserved.
absl::Status CheckCommitTerms(const CommitParams& params, const KvPlan& plan, int max_tokens,
                              int vocab_size);

}  // namespace winnow
