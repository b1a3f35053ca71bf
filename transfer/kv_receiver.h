#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "absl/status/statusor.h"
#include "plan/kv_plan.h"
#include "transfer/kv_chunk.h"
#include "transfer/stream_summary.h"

namespace winnow {

// Credits and acknowledgement for one chunk, to be sent back on its stream once it is stored.
struct ChunkAck {
  uint64_t acknowledged_sequence = 0;
  int64_t credit_bytes = 0;
  bool is_new = false;  // the chunk must be stored; otherwise it was dropped
};

// The books of one reservation's chunks: order, credits, bounds, coverage (every slot exactly
// once), positions. The caller stores the chunks that it accepts. Not thread-safe: the lock of its
// reservation guards it.
class KvReceiver {
 public:
  struct Options {
    KvPlan plan;
    int element_bytes = 0;
    int num_streams = 0;
    uint32_t attempt = 0;
    int64_t credit_bytes_per_stream = 0;
  };
  explicit KvReceiver(Options options);

  // INVALID_ARGUMENT: outside the plan, a slot twice, or positions that cannot be. DATA_LOSS: a gap
  // in the sequence. RESOURCE_EXHAUSTED: more bytes than credits. A chunk of an earlier attempt, or
  // that came before, is dropped, counted and acknowledged. REQUIRES: `payload` has
  // header.payload_bytes.
  absl::StatusOr<ChunkAck> OnChunk(const ChunkHeader& header, const std::byte* payload);
  // The credits of earlier acknowledgements are about to leave for the sender; until then it may
  // not use them.
  void OnCreditsSent(uint32_t stream, int64_t bytes);

  // DATA_LOSS: a slot is missing, or a stream carried something else than the sender says.
  absl::Status CheckComplete(const std::vector<StreamSummary>& summaries) const;

  int num_streams() const { return static_cast<int>(streams_.size()); }
  int64_t kv_payload_bytes() const { return kv_payload_bytes_; }  // unique K and V
  int64_t dropped_chunks() const { return dropped_chunks_; }

 private:
  struct Stream {
    StreamSummary received;
    int64_t credits = 0;
  };
  // A run of slots that have come, and the positions at its ends (rows of positions only).
  struct Run {
    uint32_t end = 0;
    uint32_t first_position = 0, last_position = 0;
  };
  // Of one (layer, kind, head): by first slot, disjoint, not adjacent.
  using Slots = std::map<uint32_t, Run>;

  int Rows(ChunkKind kind, int layer) const;
  size_t Index(ChunkKind kind, int layer, int head) const;
  absl::Status CheckBounds(const ChunkHeader& header) const;
  absl::Status Cover(const ChunkHeader& header, Run run);
  absl::StatusOr<Run> ReadPositions(const ChunkHeader& header, const std::byte* payload) const;

  const Options options_;
  std::vector<Stream> streams_;
  std::vector<Slots> covered_;
  int64_t kv_payload_bytes_ = 0;
  int64_t dropped_chunks_ = 0;
};

}  // namespace winnow
