#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "common/clock.h"
#include "common/deadline.h"
#include "engine/decode_engine.h"
#include "transfer/reservation.h"

namespace winnow {

// One generated token.
struct DecodedToken {
  int32_t index = 0;
  int32_t id = 0;
  bool is_last = false;
  bool is_stop = false;
};

// Who listens to a sequence. Called on the scheduler's thread (or the subscriber's own); must not block or call back.
struct DecodeSubscriber {
  std::function<void(const DecodedToken&)> token;
  std::function<void(const absl::Status&)> ended;  // once, last; OK after the last token
};

// Counters that the scheduler moves; decode_metrics.h exports them. Calls come from the scheduler's thread.
class DecodeEvents {
 public:
  virtual ~DecodeEvents() = default;
  virtual void OnStep(int batch, double seconds, int tokens) {}
  virtual void OnSequenceEnded(const absl::Status& status) {}
};

// Continuous batching over one engine: sequences join when their KV is committed, leave at a stop id, at max_tokens, on a
// cancel, or when nobody has listened for a while. Plain core without gRPC; one thread of its own. Thread-safe.
class DecodeScheduler {
 public:
  struct Options {
    absl::Duration orphan_timeout = absl::Seconds(5);   // without a Decode stream
    absl::Duration commit_timeout = absl::Seconds(120);  // a Decode stream that waits for its commit
  };
  // `release(reservation_id, handle)` frees a sequence's KV and is called on the scheduler's thread. All must outlive it.
  DecodeScheduler(DecodeEngine& engine, const Clock& clock, DecodeEvents& events,
                  std::function<void(const std::string&, int64_t)> release, Options options);
  ~DecodeScheduler();

  // Takes a committed sequence. UNAVAILABLE when shutting down.
  absl::Status Activate(const CommittedSequence& sequence);
  // Tokens from `from_index` on go to the subscriber, which replaces an earlier one. May come before the commit and then
  // waits until `deadline`.
  void Subscribe(const std::string& reservation_id, int32_t from_index, Deadline deadline,
                 DecodeSubscriber subscriber);
  // The subscriber of this reservation is gone; its sequence is freed unless somebody else comes in time.
  void Unsubscribe(const std::string& reservation_id);
  // A reservation ended before its commit: tells who waits.
  void OnReservationEnded(const std::string& reservation_id, const absl::Status& why);
  // Frees a sequence. Idempotent.
  void Abort(const std::string& reservation_id);
  int64_t num_sequences() const;

 private:
  struct Sequence {
    CommittedSequence committed;
    std::vector<int32_t> tokens;  // by index: given, then made
    int64_t next_input = 0;       // index of the token that enters next
    bool done = false;            // the last token is made; kept for a subscriber that comes again
    absl::Time orphan_since;      // since when nobody listens
  };
  struct Waiting {
    DecodeSubscriber subscriber;
    int32_t next_index = 0;
    Deadline deadline = Deadline::Infinite();
  };

  void Run();
  // One engine step over the active sequences; false when there are none.
  bool StepOnce();
  void Deliver(const std::string& id, const Sequence& sequence);
  void DropLate();
  void Remove(const std::string& id, const absl::Status& status);
  void Release();
  DecodedToken Describe(const Sequence& sequence, int32_t index) const;

  DecodeEngine& engine_;
  const Clock& clock_;
  DecodeEvents& events_;
  const std::function<void(const std::string&, int64_t)> release_;
  const Options options_;

  mutable std::mutex mutex_;  // guards all below; not held during an engine step
  std::condition_variable wake_;
  bool stopping_ = false;
  std::map<std::string, Sequence> sequences_;
  std::map<std::string, Waiting> subscribers_;
  std::vector<std::string> aborted_;  // to be removed between steps
  std::vector<std::pair<std::string, int64_t>> released_;  // told to `release_` once the lock is free
  std::string last_stepped_;          // where the next batch goes on when there are more sequences than fit

  std::thread thread_;
};

}  // namespace winnow
