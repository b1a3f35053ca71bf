#include "transfer/kv_receiver.h"

#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace winnow {
namespace {

constexpr int kKinds = 3;

std::string Describe(const ChunkHeader& h) {
  static constexpr const char* kNames[kKinds] = {"keys", "values", "positions"};
  return absl::StrCat("KV chunk ", h.sequence, " of stream ", h.stream, " (layer ", h.layer, ", ",
                      kNames[static_cast<int>(h.kind)], " of head ", h.head, ", slots [",
                      h.slot_begin, ", ", uint64_t{h.slot_begin} + h.slot_count, "))");
}

}  // namespace

KvReceiver::KvReceiver(Options options)
    : options_(std::move(options)),
      streams_(options_.num_streams),
      covered_(kKinds * options_.plan.num_layers * options_.plan.num_kv_heads) {
  for (Stream& stream : streams_) stream.credits = options_.credit_bytes_per_stream;
}

int KvReceiver::Rows(ChunkKind kind, int layer) const {
  return kind == ChunkKind::kPositions ? options_.plan.position_rows(layer)
                                       : options_.plan.num_kv_heads;
}

size_t KvReceiver::Index(ChunkKind kind, int layer, int head) const {
  return (static_cast<size_t>(kind) * options_.plan.num_layers + layer) *
             options_.plan.num_kv_heads +
         head;
}

absl::Status KvReceiver::CheckBounds(const ChunkHeader& h) const {
  const KvPlan& plan = options_.plan;
  const bool layer_ok = h.layer < static_cast<uint32_t>(plan.num_layers);
  const bool head_ok =
      layer_ok && h.head < static_cast<uint32_t>(Rows(h.kind, static_cast<int>(h.layer)));
  const bool slots_ok = head_ok && h.slot_count > 0 &&
                        uint64_t{h.slot_begin} + h.slot_count <=
                            static_cast<uint64_t>(plan.entries(static_cast<int>(h.layer)));
  if (!slots_ok)
    return absl::InvalidArgumentError(absl::StrCat(Describe(h), " lies outside the KV plan"));
  const uint64_t slot_bytes =
      h.kind == ChunkKind::kPositions
          ? 4
          : uint64_t{static_cast<uint32_t>(plan.head_dim)} * options_.element_bytes;
  if (h.payload_bytes != h.slot_count * slot_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(Describe(h), ": expected ",
                                                   h.slot_count * slot_bytes,
                                                   " payload bytes, got ", h.payload_bytes));
  }
  return absl::OkStatus();
}

// Adds a run of slots, and for positions refuses one that leaves no room for the slots between it
// and its neighbours.
absl::Status KvReceiver::Cover(const ChunkHeader& h, Run run) {
  Slots& slots = covered_[Index(h.kind, static_cast<int>(h.layer), static_cast<int>(h.head))];
  uint32_t begin = h.slot_begin;
  const auto next = slots.lower_bound(begin);
  const auto before = next == slots.begin() ? slots.end() : std::prev(next);
  const bool has_next = next != slots.end(), has_before = before != slots.end();
  if ((has_next && next->first < run.end) || (has_before && before->second.end > begin)) {
    return absl::InvalidArgumentError(absl::StrCat(Describe(h), ": a slot came twice"));
  }
  if (h.kind == ChunkKind::kPositions) {
    const uint64_t lowest =
        has_before ? uint64_t{before->second.last_position} + 1 + (begin - before->second.end)
                   : begin;
    const bool above = run.first_position >= lowest;
    const bool below = !has_next || uint64_t{run.last_position} + 1 + (next->first - run.end) <=
                                        next->second.first_position;
    if (!above || !below) {
      return absl::InvalidArgumentError(absl::StrCat(Describe(h), ": positions [",
                                                     run.first_position, ", ", run.last_position,
                                                     "] do not ascend with their neighbours"));
    }
  }
  if (has_before && before->second.end == begin) {
    begin = before->first;
    run.first_position = before->second.first_position;
    slots.erase(before);
  }
  if (has_next && next->first == run.end) {
    run.end = next->second.end;
    run.last_position = next->second.last_position;
    slots.erase(next);
  }
  slots[begin] = run;
  return absl::OkStatus();
}

// Ascending, and a list that ends in every position from the plan's tail on.
absl::StatusOr<KvReceiver::Run> KvReceiver::ReadPositions(const ChunkHeader& h,
                                                          const std::byte* payload) const {
  const auto prompt = static_cast<uint64_t>(options_.plan.num_prompt_tokens);
  const auto tail_begin = static_cast<uint64_t>(options_.plan.tail_begin);
  const auto entries = static_cast<uint64_t>(options_.plan.entries(static_cast<int>(h.layer)));
  Run run{.end = h.slot_begin + h.slot_count};
  for (uint32_t i = 0; i < h.slot_count; ++i) {
    uint32_t position = 0;
    for (int byte = 3; byte >= 0; --byte)
      position = position << 8 | static_cast<uint32_t>(payload[4 * i + byte]);
    const uint64_t from_end = entries - (h.slot_begin + i);  // ≥ 1
    const bool is_tail = from_end <= prompt - tail_begin;
    const bool ok = (i == 0 || position > run.last_position) &&
                    (is_tail ? position == prompt - from_end : position < tail_begin);
    if (!ok) {
      return absl::InvalidArgumentError(absl::StrCat(Describe(h), ": position ", position,
                                                     " cannot be at slot ", h.slot_begin + i));
    }
    if (i == 0) run.first_position = position;
    run.last_position = position;
  }
  return run;
}

absl::StatusOr<ChunkAck> KvReceiver::OnChunk(const ChunkHeader& h, const std::byte* payload) {
  if (h.stream >= streams_.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(Describe(h), ": only ", streams_.size(), " streams are reserved"));
  }
  Stream& stream = streams_[h.stream];
  const bool stale = h.attempt != options_.attempt || h.sequence < stream.received.num_chunks;
  if (stale) {
    ++dropped_chunks_;
    return ChunkAck{.acknowledged_sequence = stream.received.num_chunks};
  }
  if (h.sequence > stream.received.num_chunks) {
    return absl::DataLossError(
        absl::StrCat(Describe(h), ": chunk ", stream.received.num_chunks, " is missing before it"));
  }
  if (h.payload_bytes > stream.credits) {
    return absl::ResourceExhaustedError(absl::StrCat(
        Describe(h), ": ", h.payload_bytes, " bytes, but only ", stream.credits, " are granted"));
  }
  WINNOW_RETURN_IF_ERROR(CheckBounds(h));
  Run run{.end = h.slot_begin + h.slot_count};
  if (h.kind == ChunkKind::kPositions) {
    WINNOW_ASSIGN_OR_RETURN(run, ReadPositions(h, payload));
  }
  WINNOW_RETURN_IF_ERROR(Cover(h, run));
  stream.credits -= h.payload_bytes;
  if (h.kind != ChunkKind::kPositions) kv_payload_bytes_ += h.payload_bytes;
  stream.received.crc32c = ExtendStreamCrc(stream.received.crc32c, h.crc32c);
  ++stream.received.num_chunks;
  return ChunkAck{stream.received.num_chunks, h.payload_bytes, /*is_new=*/true};
}

void KvReceiver::OnCreditsSent(uint32_t stream, int64_t bytes) {
  streams_[stream].credits += bytes;
}

absl::Status KvReceiver::CheckComplete(const std::vector<StreamSummary>& summaries) const {
  if (summaries.size() != streams_.size()) {
    return absl::DataLossError(absl::StrCat("commit: expected ", streams_.size(),
                                            " stream summaries, got ", summaries.size()));
  }
  for (size_t i = 0; i < summaries.size(); ++i) {
    if (summaries[i] == streams_[i].received) continue;
    return absl::DataLossError(
        absl::StrCat("commit: stream ", i, " carried ", streams_[i].received.num_chunks,
                     " chunks with digest ", streams_[i].received.crc32c, ", but ",
                     summaries[i].num_chunks, " with digest ", summaries[i].crc32c, " were sent"));
  }
  for (int kind = 0; kind < kKinds; ++kind) {
    for (int layer = 0; layer < options_.plan.num_layers; ++layer) {
      for (int head = 0; head < Rows(static_cast<ChunkKind>(kind), layer); ++head) {
        const Slots& slots = covered_[Index(static_cast<ChunkKind>(kind), layer, head)];
        const auto entries = static_cast<uint32_t>(options_.plan.entries(layer));
        const bool whole =
            slots.size() == 1 && slots.begin()->first == 0 && slots.begin()->second.end == entries;
        if (whole) continue;
        return absl::DataLossError(absl::StrCat("commit: layer ", layer, ", head ", head, ", kind ",
                                                kind, ": not all of the ", entries, " slots came"));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace winnow
