#pragma once

#include "absl/status/statusor.h"
#include "engine/ranks/model_ranks.h"
#include "wire/worker_info.h"

namespace winnow {

// Who this worker is: a new incarnation that serves the loaded model with `shape`, and the
// selection profile of the model's folder. What only one role says stays unset. Errors are those of
// LoadSelectionProfile.
absl::StatusOr<WorkerIdentity> MakeWorkerIdentity(v1::WorkerRole role,
                                                  const ModelRanks::Options& load,
                                                  const ModelRanks& ranks, const ModelShape& shape);

}  // namespace winnow
