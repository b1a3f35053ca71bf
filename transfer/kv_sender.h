#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "plan/head_split.h"
#include "plan/kv_layout.h"
#include "plan/kv_plan.h"
#include "transfer/kv_chunk.h"
#include "transfer/push_transport.h"
#include "transfer/stream_summary.h"

namespace winnow {

// Sends one attempt's KV: cuts what is ready into chunks, spreads them over the rank's streams, and
// sends within the credits that the receiver grants. Thread-safe; nothing blocks. The staging
// memory and the transport must outlive it.
class KvSender {
 public:
  struct SourceRank {
    HeadSplit heads;
    KvLayout layout;
    const std::byte* staging = nullptr;
  };
  struct Options {
    KvPlan plan;
    std::vector<SourceRank> ranks;  // all ranks of the prefill worker
    int streams_per_rank = 1;
    uint32_t attempt = 0;
    int64_t credit_bytes_per_stream = 0;
    // At most; half the credits if that is less, so that one chunk can travel while another one is
    // acknowledged.
    int64_t max_chunk_bytes = 1 << 20;
    PushTransport* transport = nullptr;
    const Clock* clock = nullptr;  // for credit_stall and silence; null: not measured
  };
  explicit KvSender(Options options);

  // Streams in all: streams_per_rank of each rank that ships, by rank.
  int num_streams() const { return static_cast<int>(streams_.size()); }

  // Entries [slot_begin, slot_end) of a layer are final in the rank's staging.
  void OnReady(int rank, int layer, int64_t slot_begin, int64_t slot_end);
  // The receiver has stored all chunks below `acknowledged` and grants `credit_bytes` more.
  void OnAck(int stream, uint64_t acknowledged, int64_t credit_bytes);
  // No more parts will come; `done` is called once: OK when every chunk is acknowledged, else what
  // went wrong. It runs on the thread that brings the news, or in here.
  void Finish(std::function<void(const absl::Status&)> done);
  // Ends the attempt: a stream broke, or the request was cancelled. Later calls do nothing, and the
  // first reason wins.
  void Fail(const absl::Status& status);

  // Valid after a successful Finish.
  std::vector<StreamSummary> summaries() const;
  // K and V bytes that were given to the transport, each slot once; positions are not counted.
  int64_t kv_payload_bytes() const;
  // Time that streams spent with chunks but without credits, added up over the streams.
  absl::Duration credit_stall() const;
  // When the first chunk was given to the transport; the far future before that or without a clock.
  absl::Time begun() const;
  // Since the last acknowledgement, or the first chunk after all were acknowledged; zero while
  // nothing that was sent lacks one.
  absl::Duration silence() const;

 private:
  struct Stream {
    std::deque<KvChunk> waiting;
    int64_t credits = 0;
    uint64_t acknowledged = 0;
    absl::Time stalled_since = absl::InfiniteFuture();  // future: not stalled
    bool is_pumped = false;                             // by one thread at a time
    StreamSummary summary;
  };
  void Cut(const SourceRank& source, int first_stream, ChunkKind kind, int layer, int local_head,
           int64_t begin, int64_t end);
  // Sends what the credits allow. Checksums are made and chunks given to the transport without
  // `lock`, which is held before and after.
  void Pump(int stream, std::unique_lock<std::mutex>& lock);
  void CountStall(Stream& stream);
  const absl::Status& FailLocked(const absl::Status& status);  // the lock is held
  bool AllAcknowledged() const;
  bool SentAcknowledged() const;  // all that was sent, though more may wait
  // Takes the callback if the end has come.
  std::function<void(const absl::Status&)> TakeDone();

  const Options options_;
  std::vector<int> first_stream_;  // by rank; −1: sends nothing

  mutable std::mutex mutex_;
  std::vector<Stream> streams_;
  uint64_t next_ = 0;  // deals chunks out to a rank's streams
  int64_t kv_payload_bytes_ = 0;
  absl::Duration credit_stall_;
  absl::Time begun_ = absl::InfiniteFuture();
  absl::Time silent_since_ = absl::InfiniteFuture();  // future: no silence
  bool finishing_ = false;
  absl::Status status_;
  std::function<void(const absl::Status&)> done_;
};

}  // namespace winnow
