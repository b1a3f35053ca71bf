#pragma once

#include <cstdint>
#include <functional>

#include "absl/flags/declare.h"
#include "absl/status/statusor.h"
#include "common/clock.h"
#include "engine/ranks/model_ranks.h"

ABSL_DECLARE_FLAG(int, tp);
// Prompt and generated tokens at most; 0: the model's own context.
ABSL_DECLARE_FLAG(int64_t, max_model_len);

namespace winnow {

// The model, the device and the ranks that a worker's flags ask for: --model, --random-weights,
// --device, --dtype, --tp, --threads-per-rank; --max-model-len is checked, too. `clock` must
// outlive what is loaded with it; `on_nccl_abort` as in NcclGroup::Options. INVALID_ARGUMENT: a
// flag's value is bad; and the errors of ChooseDevice.
absl::StatusOr<ModelRanks::Options> ModelOptionsOfFlags(
    const Clock& clock, std::function<void(const absl::Status& reason)> on_nccl_abort);

}  // namespace winnow
