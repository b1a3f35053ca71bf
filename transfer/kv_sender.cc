#include "transfer/kv_sender.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "transfer/chunk_codec.h"

namespace winnow {

KvSender::KvSender(Options options) : options_(std::move(options)) {
  for (const SourceRank& rank : options_.ranks) {
    first_stream_.push_back(rank.heads.ships_kv ? static_cast<int>(streams_.size()) : -1);
    if (rank.heads.ships_kv) streams_.resize(streams_.size() + options_.streams_per_rank);
  }
  for (Stream& stream : streams_) stream.credits = options_.credit_bytes_per_stream;
}

void KvSender::OnReady(int rank, int layer, int64_t slot_begin, int64_t slot_end) {
  std::unique_lock<std::mutex> lock(mutex_);
  if (!status_.ok() || first_stream_[rank] < 0) return;
  const SourceRank& source = options_.ranks[rank];
  const int first_stream = first_stream_[rank];
  for (int head = 0; head < source.heads.kv_count; ++head) {
    Cut(source, first_stream, ChunkKind::kKeys, layer, head, slot_begin, slot_end);
    Cut(source, first_stream, ChunkKind::kValues, layer, head, slot_begin, slot_end);
  }
  // The shared row of positions goes once, from the rank that has head 0.
  const bool per_head = options_.plan.form(layer) == KvForm::kPerHead;
  const int rows = per_head || source.heads.kv_begin == 0 ? source.layout.position_rows(layer) : 0;
  for (int row = 0; row < rows; ++row) {
    Cut(source, first_stream, ChunkKind::kPositions, layer, row, slot_begin, slot_end);
  }
  for (int i = 0; i < options_.streams_per_rank; ++i) Pump(first_stream + i, lock);
  const std::function<void(const absl::Status&)> done = TakeDone();
  const absl::Status status = status_;
  lock.unlock();
  if (done) done(status);
}

void KvSender::Cut(const SourceRank& source, int first_stream, ChunkKind kind, int layer,
                   int local_head, int64_t begin, int64_t end) {
  const int64_t slot_bytes = kind == ChunkKind::kPositions ? 4 : source.layout.row_bytes(layer);
  const int64_t chunk_bytes =
      std::min(options_.max_chunk_bytes, options_.credit_bytes_per_stream / 2);
  const int64_t slots_per_chunk = std::max<int64_t>(1, chunk_bytes / slot_bytes);
  for (int64_t slot = begin; slot < end; slot += slots_per_chunk) {
    const int64_t count = std::min(slots_per_chunk, end - slot);
    int64_t offset = 0;
    switch (kind) {
      case ChunkKind::kKeys:
        offset = source.layout.key_offset(layer, local_head, slot);
        break;
      case ChunkKind::kValues:
        offset = source.layout.value_offset(layer, local_head, slot);
        break;
      case ChunkKind::kPositions:
        offset = source.layout.positions_offset(layer, local_head, slot);
        break;
    }
    const int stream = first_stream + static_cast<int>(next_++ % options_.streams_per_rank);
    KvChunk chunk;
    chunk.header.kind = kind;
    chunk.header.stream = static_cast<uint32_t>(stream);
    chunk.header.attempt = options_.attempt;
    chunk.header.layer = static_cast<uint32_t>(layer);
    chunk.header.head = static_cast<uint32_t>(source.heads.kv_begin + local_head);
    chunk.header.slot_begin = static_cast<uint32_t>(slot);
    chunk.header.slot_count = static_cast<uint32_t>(count);
    chunk.header.payload_bytes = static_cast<uint32_t>(count * slot_bytes);
    chunk.payload = source.staging + offset;
    streams_[stream].waiting.push_back(chunk);
  }
}

void KvSender::Pump(int index, std::unique_lock<std::mutex>& lock) {
  Stream& stream = streams_[index];
  if (std::exchange(stream.is_pumped, true)) return;  // whoever does sees what is new
  while (!stream.waiting.empty() && stream.credits >= stream.waiting.front().header.payload_bytes) {
    KvChunk chunk = stream.waiting.front();
    stream.waiting.pop_front();
    chunk.header.sequence = stream.summary.num_chunks++;
    stream.credits -= chunk.header.payload_bytes;
    if (chunk.header.kind != ChunkKind::kPositions) {
      kv_payload_bytes_ += chunk.header.payload_bytes;
    }
    lock.unlock();
    SealChunk(chunk.header, chunk.payload);
    lock.lock();
    stream.summary.crc32c = ExtendStreamCrc(stream.summary.crc32c, chunk.header.crc32c);
    if (options_.clock != nullptr) {
      const absl::Time now = options_.clock->Now();
      begun_ = std::min(begun_, now);
      silent_since_ = std::min(silent_since_, now);
    }
    lock.unlock();
    options_.transport->Send(index, chunk);
    lock.lock();
  }
  stream.is_pumped = false;
  CountStall(stream);
}

// What waits after a pump waits for credits.
void KvSender::CountStall(Stream& stream) {
  if (options_.clock == nullptr) return;
  const absl::Time now = options_.clock->Now();
  if (stream.stalled_since != absl::InfiniteFuture()) credit_stall_ += now - stream.stalled_since;
  stream.stalled_since = stream.waiting.empty() ? absl::InfiniteFuture() : now;
}

void KvSender::OnAck(int stream, uint64_t acknowledged, int64_t credit_bytes) {
  std::unique_lock<std::mutex> lock(mutex_);
  if (!status_.ok()) return;
  Stream& s = streams_[stream];
  if (acknowledged > s.summary.num_chunks || credit_bytes < 0) {
    FailLocked(absl::InternalError(
        absl::StrCat("push: stream ", stream, " sent ", s.summary.num_chunks, " chunks, but ",
                     acknowledged, " were acknowledged and ", credit_bytes, " bytes granted")));
  } else {
    s.acknowledged = std::max(s.acknowledged, acknowledged);
    s.credits += credit_bytes;
    silent_since_ = SentAcknowledged() || options_.clock == nullptr ? absl::InfiniteFuture()
                                                                    : options_.clock->Now();
    Pump(stream, lock);
  }
  const std::function<void(const absl::Status&)> done = TakeDone();
  const absl::Status status = status_;
  lock.unlock();
  if (done) done(status);
}

void KvSender::Finish(std::function<void(const absl::Status&)> done) {
  absl::Status status;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    finishing_ = true;
    done_ = std::move(done);
    status = status_;
    done = TakeDone();
  }
  if (done) done(status);
}

void KvSender::Fail(const absl::Status& status) {
  std::function<void(const absl::Status&)> done;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!status_.ok()) return;
    FailLocked(status);
    done = TakeDone();
  }
  if (done) done(status);
}

const absl::Status& KvSender::FailLocked(const absl::Status& status) {
  status_ = status;
  for (Stream& stream : streams_) {
    stream.waiting.clear();
    CountStall(stream);
  }
  return status_;
}

bool KvSender::SentAcknowledged() const {
  return std::all_of(streams_.begin(), streams_.end(), [](const Stream& stream) {
    return stream.acknowledged == stream.summary.num_chunks;
  });
}

bool KvSender::AllAcknowledged() const {
  return SentAcknowledged() &&
         std::all_of(streams_.begin(), streams_.end(), [](const Stream& stream) {
           return stream.waiting.empty() && !stream.is_pumped;
         });
}

std::function<void(const absl::Status&)> KvSender::TakeDone() {
  if (!finishing_ || (status_.ok() && !AllAcknowledged())) return nullptr;
  return std::exchange(done_, nullptr);
}

std::vector<StreamSummary> KvSender::summaries() const {
  std::lock_guard<std::mutex> lock(mutex_);
  std::vector<StreamSummary> out;
  for (const Stream& stream : streams_) out.push_back(stream.summary);
  return out;
}

int64_t KvSender::kv_payload_bytes() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return kv_payload_bytes_;
}

absl::Duration KvSender::credit_stall() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return credit_stall_;
}

absl::Time KvSender::begun() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return begun_;
}

absl::Duration KvSender::silence() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return silent_since_ == absl::InfiniteFuture() ? absl::ZeroDuration()
                                                 : options_.clock->Now() - silent_since_;
}

}  // namespace winnow
