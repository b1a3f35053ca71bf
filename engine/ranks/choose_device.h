#pragma once

#include <string>

#include "engine/ranks/model_ranks.h"

namespace winnow {

// Sets the device, and the type that goes with it, of a worker's ranks. `device`: "cuda" (GPU r for
// rank r), "cpu", or "auto": cuda where this program was built with it and there is a GPU for every
// rank. `dtype`: "f32", "bf16", or "auto": bf16 where the device multiplies it, else f32.
// INVALID_ARGUMENT: another name. UNIMPLEMENTED: cuda in a program without it. UNAVAILABLE: fewer
// GPUs than ranks. FAILED_PRECONDITION: bf16 on a processor without the instructions.
// REQUIRES: options.tensor_parallel and options.clock are set.
absl::Status ChooseDevice(const std::string& device, const std::string& dtype,
                          ModelRanks::Options& options);

}  // namespace winnow
