#pragma once

#include "engine/model/model_ranks.h"

namespace winnow {

// The choices of ModelRanks::Options for GPUs: rank r on GPU r, NCCL among several.
// `options.clock` must be set and outlive what is loaded. UNAVAILABLE: fewer GPUs than ranks.
absl::Status UseCuda(ModelRanks::Options& options);

}  // namespace winnow
