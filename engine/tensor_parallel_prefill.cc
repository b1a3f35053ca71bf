#include "engine/tensor_parallel_prefill.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/fault.h"
#include "common/status_macros.h"
#include "engine/select/policy_selectors.h"
#include "engine/select/selection_digest.h"

namespace winnow {
namespace {

// Of a device, for what libraries allocate by themselves.
constexpr int64_t kSpareBytes = int64_t{256} << 20;

const PolicySelectors& DefaultSelectors() {
  static const PolicySelectors selectors;
  return selectors;
}

bool AreDone(const std::vector<EventPtr>& events) {
  return std::all_of(events.begin(), events.end(), [](const EventPtr& e) { return e->IsDone(); });
}

}  // namespace

TensorParallelPrefill::TensorParallelPrefill(Options options)
    : options_(std::move(options)),
      shape_(options_.parts.ranks[0].weights->config.shape.WithContext(options_.max_context)),
      selectors_(options_.selectors != nullptr ? *options_.selectors : DefaultSelectors()),
      zeroer_(options_.zero_freed_staging ? std::make_shared<Executor>("kv-zero", 1) : nullptr) {}

absl::StatusOr<std::unique_ptr<TensorParallelPrefill>> TensorParallelPrefill::Create(
    Options options) {
  auto engine =
      std::unique_ptr<TensorParallelPrefill>(new TensorParallelPrefill(std::move(options)));
  const Options& o = engine->options_;
  for (int rank = 0; rank < engine->tensor_parallel(); ++rank) {
    const RankParts::Rank& r = o.parts.ranks[rank];
    WINNOW_ASSIGN_OR_RETURN(auto prefill_rank,
                            PrefillRank::Create({.rank = rank,
                                                 .max_rows = o.max_step_rows,
                                                 .max_context = engine->shape_.max_context,
                                                 .trim_last_layer = o.trim_last_layer},
                                                *r.weights, *r.backend, *r.communicator, *o.clock));
    engine->ranks_.push_back(std::move(prefill_rank));
  }
  engine->total_bytes_ = std::numeric_limits<int64_t>::max();
  for (const RankParts::Rank& rank : o.parts.ranks) {
    engine->total_bytes_ = std::min(engine->total_bytes_, rank.backend->FreeBytes());
  }
  if (engine->total_bytes_ < std::numeric_limits<int64_t>::max()) {
    engine->total_bytes_ = std::max<int64_t>(0, engine->total_bytes_ - kSpareBytes);
  }
  return engine;
}

PrefillMemory TensorParallelPrefill::MemoryFor(const PrefillPlan& plan,
                                               const SelectionConfig& selection) const {
  PrefillMemory memory{.free = total_bytes_ - taken_bytes_, .total = total_bytes_};
  for (const RankParts::Rank& rank : options_.parts.ranks) {
    const int64_t bytes =
        PrefillState::DeviceBytes({plan, selection, rank.weights->shard.heads, *rank.backend},
                                  shape_, selectors_, tensor_parallel());
    memory.needed = std::max(memory.needed, bytes);
  }
  return memory;
}

absl::StatusOr<std::shared_ptr<KvStaging>> TensorParallelPrefill::AllocateStaging(
    const KvPlan& plan) {
  auto staging = std::make_unique<KvStaging>();
  staging->plan = plan;
  for (const RankParts::Rank& rank : options_.parts.ranks) {
    KvStaging::Rank part;
    part.heads = rank.weights->shard.heads;
    if (part.heads.ships_kv) {
      part.layout = KvLayout(plan, part.heads.kv_count, kv_element_bytes());
      WINNOW_ASSIGN_OR_RETURN(part.memory, rank.backend->AllocateHost(part.layout.total_bytes()));
    }
    staging->ranks.push_back(std::move(part));
  }
  if (zeroer_ != nullptr) return ZeroedWhenFreed(std::move(staging), zeroer_);
  return std::shared_ptr<KvStaging>(std::move(staging));
}

absl::Status TensorParallelPrefill::CheckSpec(const PrefillSpec& spec) const {
  const auto num_tokens = static_cast<int64_t>(spec.prompt_ids.size());
  if (num_tokens < 1 || num_tokens > shape_.max_context) {
    return absl::InvalidArgumentError(absl::StrCat(
        "prefill: a prompt must have 1 to ", shape_.max_context, " tokens, got ", num_tokens));
  }
  if (spec.plan.kv.num_prompt_tokens != num_tokens ||
      spec.plan.kv.num_layers != shape_.num_layers) {
    return absl::InvalidArgumentError(absl::StrCat(
        "prefill: the plan is for ", spec.plan.kv.num_prompt_tokens, " tokens and ",
        spec.plan.kv.num_layers, " layers, expected ", num_tokens, " and ", shape_.num_layers));
  }
  WINNOW_RETURN_IF_ERROR(CheckPrefillPlan(spec.plan));
  for (int32_t id : spec.prompt_ids) {
    if (id < 0 || id >= shape_.vocab_size) {
      return absl::InvalidArgumentError(
          absl::StrCat("prefill: token id must be in [0, ", shape_.vocab_size, "), got ", id));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<int64_t> TensorParallelPrefill::Admit(PrefillSpec spec,
                                                     std::shared_ptr<KvStaging> staging,
                                                     KvSink* sink) {
  WINNOW_RETURN_IF_ERROR(CheckSpec(spec));
  const PrefillMemory memory = MemoryFor(spec.plan, spec.selection);
  if (memory.needed > memory.free) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "prefill: a prompt of ", spec.prompt_ids.size(), " tokens needs ", memory.needed,
        " bytes of device memory, ", memory.free, " of ", memory.total, " are free"));
  }
  auto sequence = std::make_unique<Sequence>();
  sequence->device_bytes = memory.needed;
  sequence->spec = std::move(spec);
  sequence->staging = std::move(staging);
  sequence->sink = sink;
  sequence->progress.num_rows = sequence->spec.plan.passes[0].num_rows;
  for (const RankParts::Rank& rank : options_.parts.ranks) {
    WINNOW_ASSIGN_OR_RETURN(auto state,
                            PrefillState::Create(sequence->spec, shape_, rank.weights->shard.heads,
                                                 selectors_, *rank.backend, *rank.communicator));
    sequence->ranks.push_back(std::move(state));
  }
  const int64_t id = next_sequence_++;
  taken_bytes_ += sequence->device_bytes;
  sequences_[id] = std::move(sequence);
  return id;
}

absl::StatusOr<PrefillProgress> TensorParallelPrefill::Progress(int64_t sequence) const {
  auto it = sequences_.find(sequence);
  if (it == sequences_.end())
    return absl::InvalidArgumentError(absl::StrCat("prefill: no sequence ", sequence));
  return it->second->progress;
}

absl::Status TensorParallelPrefill::CheckItems(absl::Span<const PrefillStepItem> items) const {
  int64_t rows = 0;
  for (const PrefillStepItem& item : items) {
    WINNOW_ASSIGN_OR_RETURN(const PrefillProgress progress, Progress(item.sequence));
    const bool continues = item.pass == progress.pass && item.row_begin == progress.next_row &&
                           item.row_count >= 1 &&
                           item.row_begin + item.row_count <= progress.num_rows;
    if (!continues) {
      return absl::InvalidArgumentError(
          absl::StrCat("prefill step: rows [", item.row_begin, ", ",
                       item.row_begin + item.row_count, ") of pass ", item.pass,
                       " do not continue sequence ", item.sequence, ", which is at row ",
                       progress.next_row, " of ", progress.num_rows, " in pass ", progress.pass));
    }
    rows += item.row_count;
  }
  if (rows > options_.max_step_rows) {
    return absl::InvalidArgumentError(
        absl::StrCat("prefill step: at most ", options_.max_step_rows, " rows, got ", rows));
  }
  return absl::OkStatus();
}

const PrefillPass& TensorParallelPrefill::PassOf(const PrefillStepItem& item) const {
  return sequences_.at(item.sequence)->spec.plan.passes[item.pass];
}

std::vector<TensorParallelPrefill::Group> TensorParallelPrefill::MakeGroups(
    absl::Span<const PrefillStepItem> items) const {
  std::vector<Group> groups;
  for (const PrefillStepItem& item : items) {
    auto it = std::find_if(groups.begin(), groups.end(), [&](const Group& group) {
      return RunTogether(PassOf(group.front()), PassOf(item));
    });
    if (it == groups.end()) it = groups.insert(groups.end(), Group());
    it->push_back(item);
  }
  return groups;
}

std::vector<PackedItem> TensorParallelPrefill::Pack(const Group& group, int rank) {
  std::vector<PackedItem> packed;
  for (const PrefillStepItem& item : group) {
    Sequence& sequence = *sequences_.at(item.sequence);
    packed.push_back(
        {.state = sequence.ranks[rank].get(),
         .pass_index = item.pass,
         .destination = {.staging = sequence.staging ? &sequence.staging->ranks[rank] : nullptr,
                         .sink = sequence.sink},
         .row_begin = item.row_begin,
         .row_count = item.row_count,
         .is_last_chunk = item.row_begin + item.row_count == sequence.progress.num_rows});
  }
  return packed;
}

absl::Status TensorParallelPrefill::RunGroup(const Group& group) {
  const Deadline deadline = Deadline::After(*options_.clock, options_.step_timeout);
  const auto timeline = std::make_shared<StageTimeline>(*options_.parts.ranks[0].backend);
  for (const PrefillStepItem& item : group) {
    sequences_.at(item.sequence)->timelines.push_back(timeline);
  }
  const absl::Status status = options_.parts.group->Run(
      [&](int rank) {
        return ranks_[rank]->RunChunks(Pack(group, rank), rank == 0 ? timeline.get() : nullptr,
                                       deadline);
      },
      [&](const absl::Status& error) { options_.parts.ranks[0].communicator->Abort(error); });
  if (!status.ok() && options_.parts.reset_communicators) options_.parts.reset_communicators();
  return status;
}

void TensorParallelPrefill::Advance(const PrefillStepItem& item) {
  Sequence& sequence = *sequences_.at(item.sequence);
  PrefillProgress& progress = sequence.progress;
  progress.next_row += item.row_count;
  if (progress.next_row < progress.num_rows) return;
  const std::vector<PrefillPass>& passes = sequence.spec.plan.passes;
  const int next = progress.pass + 1;
  const bool has_next = next < static_cast<int>(passes.size());
  progress = {.pass = next, .num_rows = has_next ? passes[next].num_rows : 0};
}

absl::StatusOr<std::vector<PrefillOutput>> TensorParallelPrefill::Step(
    absl::Span<const PrefillStepItem> items) {
  WINNOW_RETURN_IF_ERROR(CheckItems(items));
  for (const Group& group : MakeGroups(items)) WINNOW_RETURN_IF_ERROR(RunGroup(group));
  std::vector<PrefillOutput> outputs;
  for (const PrefillStepItem& item : items) {
    Advance(item);
    const bool pass_ended = sequences_.at(item.sequence)->progress.pass != item.pass;
    if (pass_ended && PassOf(item).makes_logits) outputs.push_back(Collect(item));
  }
  return outputs;
}

PrefillOutput TensorParallelPrefill::Collect(const PrefillStepItem& item) const {
  const Sequence& sequence = *sequences_.at(item.sequence);
  PrefillOutput output{
      .sequence = item.sequence, .pass = item.pass, .is_last = sequence.progress.is_done()};
  for (const auto& timeline : sequence.timelines) timeline->AddTo(output.stages);
  const float* logits = sequence.ranks[0]->host_logits();
  output.logits.assign(logits, logits + shape_.vocab_size);
  if (sequence.spec.plan.is_pruned()) output.status = CollectSelection(sequence, output);
  return output;
}

absl::Status TensorParallelPrefill::CollectSelection(const Sequence& sequence,
                                                     PrefillOutput& output) const {
  for (int rank = 0; rank < tensor_parallel(); ++rank) {
    const TokenSelector& selector = *sequence.ranks[rank]->selector();
    if (const absl::Status sound = selector.Check(); !sound.ok()) {
      return absl::Status(sound.code(),
                          absl::StrCat("prefill: ", sound.message(), " (seen by rank ", rank, ")"));
    }
    const absl::Span<const int32_t> positions = selector.kept_positions();
    uint64_t digest = SelectionDigest(positions);
    if (FaultAt("prefill.digest", rank) == Fault::kCorrupt) digest ^= 1;
    if (rank == 0) {
      output.selection_digest = digest;
      output.kept_positions.assign(positions.begin(), positions.end());
      output.scores.assign(selector.scores().begin(), selector.scores().end());
    } else if (digest != output.selection_digest) {
      return SelectionMismatch(output.selection_digest, digest, rank);
    }
  }
  return absl::OkStatus();
}

void TensorParallelPrefill::Release(int64_t sequence) {
  const auto it = sequences_.find(sequence);
  if (it == sequences_.end()) return;
  std::unique_ptr<Sequence> released = std::move(it->second);
  sequences_.erase(it);
  std::vector<EventPtr> queues;
  for (const RankParts::Rank& rank : options_.parts.ranks) {
    queues.push_back(rank.backend->Record());
    queues.push_back(rank.backend->RecordOut());
  }
  if (AreDone(queues)) return Free(std::move(released));
  retirer_.Add([this, queues, released = released.release()] {
    // Looks instead of waiting, which would count as a drain. After a step's time the device is
    // lost and writes nothing any more.
    const Deadline deadline = Deadline::After(*options_.clock, options_.step_timeout);
    while (!AreDone(queues) && !deadline.HasPassed(*options_.clock)) {
      absl::SleepFor(absl::Milliseconds(1));
    }
    Free(std::unique_ptr<Sequence>(released));
  });
}

void TensorParallelPrefill::Free(std::unique_ptr<Sequence> released) {
  const int64_t bytes = released->device_bytes;
  released.reset();
  taken_bytes_ -= bytes;
}

}  // namespace winnow
