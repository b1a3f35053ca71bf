#include "worker/worker_identity.h"

#include "checkpoint/selection_profile.h"
#include "common/process.h"
#include "common/status_macros.h"
#include "plan/layout_digest.h"
#include "plan/wire_version.h"

namespace winnow {

absl::StatusOr<WorkerIdentity> MakeWorkerIdentity(v1::WorkerRole role,
                                                  const ModelRanks::Options& load,
                                                  const ModelRanks& ranks,
                                                  const ModelShape& shape) {
  WorkerIdentity identity{.role = role,
                          .incarnation = NewIncarnation(),
                          .tensor_parallel = load.tensor_parallel,
                          .kv_dtype = DTypeName(load.types.kv),
                          .model_id = ModelId(load.model_dir),
                          .shape = shape,
                          .eos_token_ids = ranks.config.eos_token_ids,
                          .wire_version = kWireVersion};
  identity.layout_digest =
      LayoutDigest(ranks.revision, identity.kv_dtype, ranks.config.shape, ranks.config.rope.theta);
  WINNOW_ASSIGN_OR_RETURN(identity.profile,
                          LoadSelectionProfile(load.model_dir, ranks.config.shape));
  return identity;
}

}  // namespace winnow
