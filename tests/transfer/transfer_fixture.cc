#include "tests/transfer/transfer_fixture.h"

#include <algorithm>
#include <cstring>
#include <random>

#include "gtest/gtest.h"
#include "plan/selection_config.h"
#include "transfer/chunk_codec.h"

namespace winnow {
namespace {

constexpr ChunkKind kKinds[] = {ChunkKind::kKeys, ChunkKind::kValues, ChunkKind::kPositions};

}  // namespace

ModelShape SmallShape() {
  return {.num_layers = 4,
          .hidden = 32,
          .num_q_heads = 8,
          .num_kv_heads = 4,
          .head_dim = 4,
          .intermediate = 64,
          .vocab_size = 100,
          .max_context = 64};
}

KvPlan SmallPlan() {
  SelectionConfig config;
  config.window = 3;
  config.aggregate_layers = 2;
  config.uncompacted_layers = 1;
  config.selection_layer = 2;
  config.keep_ppm = 300'000;
  config.min_prompt_tokens = 0;
  config.min_kept_tokens = 0;
  return MakePrefillPlan(SmallShape(), config, 40).kv;
}

KvPlan UnprunedPlan() {
  SelectionConfig config;
  config.policy = &kFullPolicy;
  return MakePrefillPlan(SmallShape(), config, 40).kv;
}

int RowsOf(const KvPlan& plan, ChunkKind kind, int layer) {
  return kind == ChunkKind::kPositions ? plan.position_rows(layer) : plan.num_kv_heads;
}

std::vector<uint32_t> PromptKv::Positions(int layer, int row) const {
  std::vector<uint32_t> candidates;
  for (int64_t position = 0; position < plan_.tail_begin; ++position) {
    candidates.push_back(static_cast<uint32_t>(position));
  }
  std::mt19937 random(seed_ * 1000 + layer * 10 + row);
  std::shuffle(candidates.begin(), candidates.end(), random);
  const int64_t tail = plan_.num_prompt_tokens - plan_.tail_begin;
  candidates.resize(plan_.entries(layer) - tail);
  std::sort(candidates.begin(), candidates.end());
  for (int64_t position = plan_.tail_begin; position < plan_.num_prompt_tokens; ++position) {
    candidates.push_back(static_cast<uint32_t>(position));
  }
  return candidates;
}

std::vector<std::byte> PromptKv::Payload(ChunkKind kind, int layer, int head, int64_t slot_begin,
                                         int64_t slot_count) const {
  std::vector<std::byte> out;
  if (kind == ChunkKind::kPositions) {
    const std::vector<uint32_t> positions = Positions(layer, head);
    out.resize(4 * slot_count);
    std::memcpy(out.data(), positions.data() + slot_begin, out.size());
    return out;
  }
  const int64_t row_bytes = int64_t{plan_.head_dim} * kElementBytes;
  for (int64_t i = slot_begin * row_bytes; i < (slot_begin + slot_count) * row_bytes; ++i) {
    uint64_t mixed = seed_ + 31 * (static_cast<uint64_t>(kind) + 3 * (layer + 17 * head));
    mixed = (mixed * 1'000'003 + static_cast<uint64_t>(i)) * 0x9E3779B97F4A7C15;
    out.push_back(static_cast<std::byte>(mixed >> 56));
  }
  return out;
}

std::pair<ChunkHeader, std::vector<std::byte>> PromptKv::Chunk(ChunkKind kind, int layer, int head,
                                                               int64_t slot_begin,
                                                               int64_t slot_count,
                                                               uint64_t sequence, uint32_t stream,
                                                               uint32_t attempt) const {
  std::vector<std::byte> payload = Payload(kind, layer, head, slot_begin, slot_count);
  ChunkHeader header{.kind = kind,
                     .stream = stream,
                     .attempt = attempt,
                     .sequence = sequence,
                     .layer = static_cast<uint32_t>(layer),
                     .head = static_cast<uint32_t>(head),
                     .slot_begin = static_cast<uint32_t>(slot_begin),
                     .slot_count = static_cast<uint32_t>(slot_count),
                     .payload_bytes = static_cast<uint32_t>(payload.size())};
  SealChunk(header, payload.data());
  return {header, std::move(payload)};
}

FilledStaging::FilledStaging(const PromptKv& prompt, int tensor_parallel) {
  const KvPlan& plan = prompt.plan();
  const ModelShape shape{.num_q_heads = 2 * plan.num_kv_heads, .num_kv_heads = plan.num_kv_heads};
  for (int rank = 0; rank < tensor_parallel; ++rank) {
    const auto heads = SplitHeads(shape, tensor_parallel, rank);
    EXPECT_TRUE(heads.ok()) << heads.status();
    heads_.push_back(*heads);
    layouts_.push_back(heads->ships_kv ? KvLayout(plan, heads->kv_count, kElementBytes)
                                       : KvLayout());
    const KvLayout& layout = layouts_.back();
    std::vector<std::byte>& memory = memory_.emplace_back(layout.total_bytes());
    if (!heads->ships_kv) continue;
    const auto fill = [&](int64_t offset, ChunkKind kind, int layer, int head) {
      const auto bytes = prompt.Payload(kind, layer, head, 0, plan.entries(layer));
      std::copy(bytes.begin(), bytes.end(), memory.begin() + offset);
    };
    for (int layer = 0; layer < plan.num_layers; ++layer) {
      for (int local = 0; local < heads->kv_count; ++local) {
        const int head = heads->kv_begin + local;
        fill(layout.key_offset(layer, local, 0), ChunkKind::kKeys, layer, head);
        fill(layout.value_offset(layer, local, 0), ChunkKind::kValues, layer, head);
      }
      const bool shared = plan.form(layer) == KvForm::kSelected;
      for (int row = 0; row < layout.position_rows(layer); ++row) {
        fill(layout.positions_offset(layer, row, 0), ChunkKind::kPositions, layer,
             shared ? 0 : heads->kv_begin + row);
      }
    }
  }
}

std::vector<KvSender::SourceRank> FilledStaging::ranks() const {
  std::vector<KvSender::SourceRank> out;
  for (size_t rank = 0; rank < heads_.size(); ++rank) {
    out.push_back({heads_[rank], layouts_[rank], memory_[rank].data()});
  }
  return out;
}

absl::StatusOr<int64_t> FakeTarget::Reserve(const KvPlan&, int64_t extra_tokens) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (static_cast<int>(live_.size()) >= room_) return absl::ResourceExhaustedError("no room");
  last_extra_tokens_ = extra_tokens;
  live_[next_handle_];
  return next_handle_++;
}

void FakeTarget::Write(int64_t handle, const ChunkHeader& header, const std::byte* payload) {
  if (on_write) on_write(header);
  std::lock_guard<std::mutex> lock(mutex_);
  const auto it = live_.find(handle);
  ASSERT_NE(it, live_.end()) << "a write to freed memory";
  const size_t slot_bytes = header.payload_bytes / header.slot_count;
  for (uint32_t i = 0; i < header.slot_count; ++i) {
    const std::byte* slot = payload + i * slot_bytes;
    it->second[{header.kind, header.layer, header.head, header.slot_begin + i}].assign(
        slot, slot + slot_bytes);
  }
}

void FakeTarget::Free(int64_t handle) {
  std::lock_guard<std::mutex> lock(mutex_);
  ASSERT_EQ(live_.erase(handle), 1u) << "freed twice";
  ++freed_;
}

KvTarget::Blocks FakeTarget::blocks() const { return {room_, room_ - num_live()}; }

int FakeTarget::num_live() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return static_cast<int>(live_.size());
}

int FakeTarget::num_freed() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return freed_;
}

int64_t FakeTarget::last_extra_tokens() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return last_extra_tokens_;
}

int64_t FakeTarget::CountWrongSlots(int64_t handle, const PromptKv& prompt) const {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto live = live_.find(handle);
  if (live == live_.end()) return -1;
  const KvPlan& plan = prompt.plan();
  int64_t wrong = 0, expected = 0;
  for (ChunkKind kind : kKinds) {
    for (int layer = 0; layer < plan.num_layers; ++layer) {
      for (int head = 0; head < RowsOf(plan, kind, layer); ++head) {
        for (int64_t slot = 0; slot < plan.entries(layer); ++slot) {
          const auto it =
              live->second.find({kind, static_cast<uint32_t>(layer), static_cast<uint32_t>(head),
                                 static_cast<uint32_t>(slot)});
          ++expected;
          wrong +=
              it == live->second.end() || it->second != prompt.Payload(kind, layer, head, slot, 1);
        }
      }
    }
  }
  return wrong + std::abs(expected - static_cast<int64_t>(live->second.size()));
}

TransferIdentity TestIdentity() {
  return {.request_id = "request",
          .attempt = 1,
          .source_incarnation = 5,
          .target_incarnation = 7,
          .layout_digest = "layout",
          .wire_version = kWireVersion};
}

}  // namespace winnow
