#pragma once

#include "engine/ranks/model_ranks.h"

namespace winnow {

// How ranks on GPUs are joined.
enum class CudaPeers {
  kAuto,    // a GPU for each; a lone rank needs nobody, several have NCCL
  kNccl,    // the same, and NCCL for a lone rank, too
  kOneGpu,  // all share the first GPU and its memory: slower than one rank, but the same code
};

// The choices of ModelRanks::Options for GPUs. `options.clock` must be set and outlive what is
// loaded. UNAVAILABLE: too few GPUs.
absl::Status UseCuda(ModelRanks::Options& options, CudaPeers peers = CudaPeers::kAuto);

}  // namespace winnow
