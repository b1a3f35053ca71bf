#include "tests/simulation/simulated_decode_worker.h"

#include <limits>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "transfer/chunk_codec.h"

namespace winnow {
namespace {

constexpr int kElementBytes = 2;

// Positions that the entries of a pruned layer may have: the first of the prompt, and its tail.
std::vector<uint32_t> AnyPositions(const KvPlan& plan, int layer) {
  std::vector<uint32_t> positions(plan.entries(layer));
  const int64_t tail_rows = plan.num_prompt_tokens - plan.tail_begin;
  const auto tail = positions.end() - tail_rows;
  std::iota(positions.begin(), tail, 0);
  std::iota(tail, positions.end(), static_cast<uint32_t>(plan.tail_begin));
  return positions;
}

}  // namespace

absl::StatusOr<int64_t> SimulatedKvMemory::Reserve(const KvPlan& plan, int64_t extra_tokens) {
  int64_t entries = int64_t{plan.num_layers} * extra_tokens;
  for (int layer = 0; layer < plan.num_layers; ++layer) entries += plan.entries(layer);
  if (used_ + entries > total_) {
    return absl::ResourceExhaustedError("decode: no KV memory is free");
  }
  used_ += entries;
  entries_[next_handle_] = entries;
  return next_handle_++;
}

void SimulatedKvMemory::Free(int64_t handle) {
  const auto it = entries_.find(handle);
  used_ -= it->second;
  entries_.erase(it);
}

SimulatedDecodeWorker::SimulatedDecodeWorker(VirtualClock& clock, const CostModel& cost,
                                             const ModelShape& shape, Options options)
    : options_(std::move(options)),
      engine_(clock, cost, shape),
      core_(std::make_unique<SimulatedKvMemory>(options_.kv_entries), engine_, clock, events_,
            CoreOptions(shape)) {}

// Nobody renews a lease here, ids must be the same in every run, and one head stands for all: the
// messages of the others would only cost the simulation its time.
DecodeCore::Options SimulatedDecodeWorker::CoreOptions(const ModelShape& shape) {
  DecodeCore::Options options;
  options.reservations.shape = shape;
  options.reservations.shape.num_kv_heads = 1;
  options.reservations.kv_element_bytes = kElementBytes;
  options.reservations.layout_digest = "simulated";
  options.reservations.incarnation = 1;
  options.reservations.ttl = absl::Hours(24);
  options.reservations.credit_bytes_per_stream = std::numeric_limits<int64_t>::max();
  options.reservations.make_id = [this] { return absl::StrCat(options_.address, "/", next_id_++); };
  return options;
}

absl::StatusOr<std::string> SimulatedDecodeWorker::Reserve(const KvPlan& plan,
                                                           const std::string& request_id,
                                                           uint32_t attempt, int max_tokens) {
  Handoff handoff{.identity = {.request_id = request_id,
                               .attempt = attempt,
                               .source_incarnation = 1,
                               .target_incarnation = 1,
                               .layout_digest = "simulated",
                               .wire_version = kWireVersion},
                  .plan = plan};
  handoff.plan.num_kv_heads = 1;
  WINNOW_ASSIGN_OR_RETURN(const ReserveGrant grant, core_.Reserve({.identity = handoff.identity,
                                                                   .plan = handoff.plan,
                                                                   .max_tokens = max_tokens}));
  handoffs_[grant.reservation_id] = handoff;
  return grant.reservation_id;
}

// One chunk for each row of the plan. Nothing reads what is in keys and values.
absl::StatusOr<StreamSummary> SimulatedDecodeWorker::SendKv(const std::string& reservation_id,
                                                            const Handoff& handoff) {
  const KvPlan& plan = handoff.plan;
  StreamSummary sent;
  for (const ChunkKind kind : {ChunkKind::kKeys, ChunkKind::kValues, ChunkKind::kPositions}) {
    const bool is_kv = kind != ChunkKind::kPositions;
    for (int layer = 0; layer < plan.num_layers; ++layer) {
      const int64_t slot_bytes = is_kv ? plan.head_dim * kElementBytes : sizeof(uint32_t);
      ChunkHeader header{.kind = kind,
                         .attempt = handoff.identity.attempt,
                         .layer = static_cast<uint32_t>(layer),
                         .slot_count = static_cast<uint32_t>(plan.entries(layer)),
                         .payload_bytes = static_cast<uint32_t>(plan.entries(layer) * slot_bytes)};
      const int rows = is_kv ? plan.num_kv_heads : plan.position_rows(layer);
      std::vector<uint32_t> positions;
      if (!is_kv && rows > 0) positions = AnyPositions(plan, layer);
      for (int row = 0; row < rows; ++row) {
        header.head = static_cast<uint32_t>(row);
        header.sequence = sent.num_chunks;
        WINNOW_RETURN_IF_ERROR(
            core_
                .OnChunk(reservation_id, /*stream=*/0, header,
                         is_kv ? nullptr : reinterpret_cast<const std::byte*>(positions.data()))
                .status());
        sent = {sent.num_chunks + 1, ExtendStreamCrc(sent.crc32c, header.crc32c)};
      }
    }
  }
  return sent;
}

absl::Status SimulatedDecodeWorker::Commit(const std::string& reservation_id,
                                           const std::vector<int32_t>& tokens,
                                           const SamplingParams& sampling) {
  const auto it = handoffs_.find(reservation_id);
  if (it == handoffs_.end()) return absl::NotFoundError("decode: no such reservation");
  const Handoff handoff = it->second;
  handoffs_.erase(it);
  WINNOW_ASSIGN_OR_RETURN(const StreamSummary sent, SendKv(reservation_id, handoff));
  CommitParams params{.identity = handoff.identity,
                      .reservation_id = reservation_id,
                      .num_prompt_tokens = handoff.plan.num_prompt_tokens,
                      .next_position = handoff.plan.next_position,
                      .tokens = tokens,
                      .sampling = sampling,
                      .streams = {sent}};
  for (int layer = 0; layer < handoff.plan.num_layers; ++layer) {
    params.entries_per_layer.push_back(handoff.plan.entries(layer));
  }
  return core_.Commit(params).status();
}

void SimulatedDecodeWorker::AbortReservation(const std::string& reservation_id,
                                             const std::string& reason) {
  const auto it = handoffs_.find(reservation_id);
  if (it == handoffs_.end()) return;
  (void)core_.Abort(reservation_id, it->second.identity, reason);
  handoffs_.erase(it);
}

int64_t SimulatedDecodeWorker::used_entries() const {
  const KvTarget::Blocks entries = core_.load().kv_blocks;
  return entries.total - entries.free;
}

v1::WorkerInfo SimulatedDecodeWorker::Info() const {
  v1::WorkerInfo info;
  info.set_role(v1::WORKER_ROLE_DECODE);
  info.set_layout_digest("simulated");
  info.set_incarnation(1);
  info.set_max_context(engine_.shape().max_context);
  info.mutable_load()->set_tokens(core_.load().tokens);
  return info;
}

}  // namespace winnow
