#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "plan/head_split.h"
#include "plan/kv_layout.h"
#include "plan/kv_plan.h"
#include "transfer/kv_chunk.h"
#include "transfer/kv_sender.h"
#include "transfer/kv_target.h"
#include "transfer/reservation.h"

namespace winnow {

inline constexpr int kElementBytes = 2;

// Four layers, eight query heads over four KV heads: tensor parallel 1, 2, 4 and, sharing heads, 8.
ModelShape SmallShape();
// Layer 0 stores all, 1 and 2 per head, 3 the selected tokens; 12 of 40 tokens are kept, the last 3
// of them always.
KvPlan SmallPlan();
// The same prompt with nothing pruned.
KvPlan UnprunedPlan();

// What a prompt stores: every byte of it follows from the plan and a seed, whoever asks.
class PromptKv {
 public:
  explicit PromptKv(KvPlan plan, uint32_t seed = 1) : plan_(std::move(plan)), seed_(seed) {}

  const KvPlan& plan() const { return plan_; }
  // The payload of slots [slot_begin, slot_begin + slot_count) of one head (or row of positions).
  std::vector<std::byte> Payload(ChunkKind kind, int layer, int head, int64_t slot_begin,
                                 int64_t slot_count) const;
  // A chunk with its checksum, and its payload.
  std::pair<ChunkHeader, std::vector<std::byte>> Chunk(ChunkKind kind, int layer, int head,
                                                       int64_t slot_begin, int64_t slot_count,
                                                       uint64_t sequence, uint32_t stream = 0,
                                                       uint32_t attempt = 1) const;

 private:
  std::vector<uint32_t> Positions(int layer, int row) const;

  const KvPlan plan_;
  const uint32_t seed_;
};

// The staging memory of all ranks of a prefill worker, filled.
class FilledStaging {
 public:
  FilledStaging(const PromptKv& prompt, int tensor_parallel);
  std::vector<KvSender::SourceRank> ranks() const;

 private:
  std::vector<HeadSplit> heads_;
  std::vector<KvLayout> layouts_;
  std::vector<std::vector<std::byte>> memory_;
};

// Keeps what it is given; room for a number of reservations. Thread-safe.
class FakeTarget final : public KvTarget {
 public:
  explicit FakeTarget(int room = 1000) : room_(room) {}

  absl::StatusOr<int64_t> Reserve(const KvPlan& plan, int64_t extra_tokens) override;
  void Write(int64_t handle, const ChunkHeader& header, const std::byte* payload) override;
  void Free(int64_t handle) override;
  Blocks blocks() const override;  // one for each reservation

  // Called by Write before it does anything. Set before it is used.
  std::function<void(const ChunkHeader&)> on_write;

  int num_live() const;
  int num_freed() const;
  int64_t last_extra_tokens() const;
  // Number of slots of a live handle that differ from the prompt's, or never came.
  int64_t CountWrongSlots(int64_t handle, const PromptKv& prompt) const;

 private:
  using Key = std::tuple<ChunkKind, uint32_t, uint32_t, uint32_t>;  // layer, head, slot
  mutable std::mutex mutex_;
  const int room_;
  int freed_ = 0;
  int64_t next_handle_ = 100, last_extra_tokens_ = -1;
  std::map<int64_t, std::map<Key, std::vector<std::byte>>> live_;
};

// Rows of (layer, kind): KV heads, or rows of positions.
int RowsOf(const KvPlan& plan, ChunkKind kind, int layer);

// Ids as a prefill worker would say them, for the layout digest "layout" and target incarnation 7.
TransferIdentity TestIdentity();

}  // namespace winnow
