#include "engine/ranks/model_ranks.h"

#include <algorithm>
#include <mutex>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "checkpoint/weight_table.h"
#include "common/log.h"
#include "common/status_macros.h"
#include "engine/comm/local_communicator.h"
#include "engine/device/cpu_backend.h"
#include "engine/model/random_tensors.h"
#include "engine/model/tensor_reader.h"

namespace winnow {
namespace {

// Sums what the ranks have read, and logs it now and then.
class LoadProgress {
 public:
  LoadProgress(const Clock& clock, bool log)
      : clock_(clock), log_(log), begin_(clock.Now()), logged_(begin_) {}

  void Add(int64_t bytes) {
    std::lock_guard<std::mutex> lock(mutex_);
    total_ += bytes;
    const absl::Time now = clock_.Now();
    if (!log_ || now - logged_ < absl::Seconds(5)) return;
    logged_ = now;
    const double seconds = absl::ToDoubleSeconds(now - begin_);
    spdlog::info("loading weights: {:.0f} MB after {:.0f} s ({:.0f} MB/s)", total_ * 1e-6, seconds,
                 total_ * 1e-6 / seconds);
  }
  int64_t total() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return total_;
  }
  double seconds() const { return absl::ToDoubleSeconds(clock_.Now() - begin_); }

 private:
  const Clock& clock_;
  const bool log_;
  const absl::Time begin_;
  mutable std::mutex mutex_;
  absl::Time logged_;
  int64_t total_ = 0;
};

// Null: random weights.
std::unique_ptr<TensorSource> MakeSource(const Checkpoint* checkpoint) {
  if (checkpoint == nullptr) return std::make_unique<RandomTensors>();
  return std::make_unique<TensorReader>(*checkpoint);
}

// Kernels take one type for a weight and its rows, and one for queries and stored keys.
absl::Status CheckTypes(const ModelTypes& types) {
  if (types == ModelTypes(types.activations)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "model: weights, activations and KV must be of one type, got ", DTypeName(types.weights),
      ", ", DTypeName(types.activations), " and ", DTypeName(types.kv)));
}

// Before minutes are spent on reading what cannot be held.
absl::Status CheckWeightsFit(const ModelConfig& config, const ShardPlan& shard,
                             const Backend& backend) {
  const int64_t needed = NumWeights(config, shard) * ElementSize(backend.types().weights);
  const int64_t free = backend.FreeBytes();
  if (needed <= free) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrFormat(
      "model: the weights of rank %d of %d take %.1f GB, its device has %.1f GB free: needs more "
      "ranks (--tp) or larger devices",
      shard.rank, shard.tensor_parallel, static_cast<double>(needed) * 1e-9,
      static_cast<double>(free) * 1e-9));
}

}  // namespace

absl::Status ModelRanks::Health() const {
  for (size_t rank = 0; rank < backends.size(); ++rank) {
    const absl::Status health = backends[rank]->Health();
    if (!health.ok()) {
      return absl::Status(health.code(), absl::StrCat("rank ", rank, ": ", health.message()));
    }
  }
  return absl::OkStatus();
}

RankParts ModelRanks::parts() {
  RankParts parts{.group = group.get(), .reset_communicators = [this] { ResetCommunicators(); }};
  for (size_t rank = 0; rank < backends.size(); ++rank) {
    parts.ranks.push_back({backends[rank].get(),
                           &communicators->communicator(static_cast<int>(rank)),
                           weights[rank].get()});
  }
  return parts;
}

void ModelRanks::ResetCommunicators() {
  if (const absl::Status status = communicators->Reset(); !status.ok()) {
    spdlog::error("the ranks cannot talk any more: {}", status.ToString());
  }
}

absl::StatusOr<std::unique_ptr<ModelRanks>> LoadModelRanks(const ModelRanks::Options& options) {
  auto ranks = std::make_unique<ModelRanks>();
  WINNOW_ASSIGN_OR_RETURN(ranks->config, LoadModelConfig(options.model_dir));
  std::unique_ptr<Checkpoint> checkpoint;
  ranks->revision = "random weights";
  if (!options.random_weights) {
    WINNOW_ASSIGN_OR_RETURN(checkpoint, Checkpoint::Open(options.model_dir));
    ranks->revision = checkpoint->revision();
  }
  const int size = options.tensor_parallel;
  if (size < 1)
    return absl::InvalidArgumentError(absl::StrCat("model: needs at least 1 rank, got ", size));
  const int cores = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  const int threads =
      options.threads_per_rank > 0 ? options.threads_per_rank : std::max(1, cores / size);
  std::vector<ShardPlan> shards;
  for (int rank = 0; rank < size; ++rank) {
    WINNOW_ASSIGN_OR_RETURN(const ShardPlan shard, MakeShardPlan(ranks->config.shape, size, rank));
    shards.push_back(shard);
    if (options.make_backend) {
      WINNOW_ASSIGN_OR_RETURN(std::unique_ptr<Backend> backend, options.make_backend(rank));
      ranks->backends.push_back(std::move(backend));
    } else {
      ranks->backends.push_back(std::make_unique<CpuBackend>(
          CpuBackend::Options{.types = options.types, .num_threads = threads}));
    }
    WINNOW_RETURN_IF_ERROR(CheckTypes(ranks->backends.back()->types()));
    WINNOW_RETURN_IF_ERROR(CheckWeightsFit(ranks->config, shard, *ranks->backends.back()));
  }
  ranks->weights.resize(size);
  if (options.make_communicators) {
    WINNOW_ASSIGN_OR_RETURN(ranks->communicators, options.make_communicators(ranks->backends));
  } else {
    ranks->communicators = std::make_unique<LocalGroup>(size, *options.clock);
  }
  ranks->group = std::make_unique<RankGroup>(size, [](int) {});

  LoadProgress progress(*options.clock, options.log_progress);
  WINNOW_RETURN_IF_ERROR(ranks->group->Run([&](int rank) -> absl::Status {
    int64_t read = 0;
    const auto add = [&](int64_t bytes) {
      progress.Add(bytes - read);
      read = bytes;
    };
    const std::unique_ptr<TensorSource> source = MakeSource(checkpoint.get());
    WINNOW_ASSIGN_OR_RETURN(ranks->weights[rank], LoadWeights(*source, ranks->config, shards[rank],
                                                              *ranks->backends[rank], add));
    return absl::OkStatus();
  }));
  if (options.log_progress) {
    const double seconds = progress.seconds();
    spdlog::info("loaded {:.1f} MB of {}{} on {} rank(s) x {} thread(s) in {:.2f} s ({:.0f} MB/s)",
                 progress.total() * 1e-6, options.random_weights ? "random weights for " : "",
                 options.model_dir, size, threads, seconds, progress.total() * 1e-6 / seconds);
  }
  return ranks;
}

}  // namespace winnow
