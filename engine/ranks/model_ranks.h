#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/clock.h"
#include "engine/comm/communicator.h"
#include "engine/comm/rank_group.h"
#include "engine/device/backend.h"
#include "engine/model/weights.h"
#include "engine/ranks/rank_parts.h"

namespace winnow {

// A model loaded on the ranks of one process: what prefill and decode engines are built on.
struct ModelRanks {
  struct Options {
    std::string model_dir;
    ModelTypes types;
    int tensor_parallel = 1;
    int threads_per_rank = 0;  // 0: the machine's cores shared among the ranks, at least 1
    const Clock* clock = nullptr;
    bool log_progress = false;  // every few seconds, and at the end
    // A rank's device; null: the CPU.
    std::function<absl::StatusOr<std::unique_ptr<Backend>>(int rank)> make_backend;
    // Collectives among these; null: through memory that every rank's thread can read.
    std::function<absl::StatusOr<std::unique_ptr<CommunicatorGroup>>(
        const std::vector<std::unique_ptr<Backend>>& backends)>
        make_communicators;
    // NcclGroup::Options::on_abort, where the ranks talk through NCCL. Set before ChooseDevice.
    std::function<void(const absl::Status& reason)> on_nccl_abort;
    // The smallest sum that overlaps with compute (PeerSums), on GPUs that reach each other's
    // memory; by default where overlap was measured to pay: a million elements on two ranks.
    std::optional<int64_t> min_overlap_elements;
    // Weights are made up (random_tensors.h): only config.json is read.
    bool random_weights = false;
  };

  ModelConfig config;
  std::string revision;  // of the checkpoint
  std::vector<std::unique_ptr<Backend>> backends;
  std::vector<std::unique_ptr<ModelWeights>> weights;
  std::unique_ptr<CommunicatorGroup> communicators;
  std::unique_ptr<RankGroup> group;

  // The first error that a rank's device keeps: every step fails from then on, until a restart.
  absl::Status Health() const;
  // After a failed step. Logs when the ranks cannot talk any more; every step then fails.
  void ResetCommunicators();
  // What engines are built on. The ranks must outlive what is built.
  RankParts parts();
};

// Opens the folder and loads every rank's shard, ranks side by side. Errors name file, tensor or
// field. INVALID_ARGUMENT: a number of ranks that does not divide the model. RESOURCE_EXHAUSTED: a
// rank's device cannot hold its weights; known before they are read.
absl::StatusOr<std::unique_ptr<ModelRanks>> LoadModelRanks(const ModelRanks::Options& options);

}  // namespace winnow
