#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
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

// What a Decode stream asks for.
struct DecodeSubscription {
  std::string reservation_id;
  std::string request_id;
  uint32_t attempt = 0;
  int32_t from_index = 0;
  Deadline deadline = Deadline::Infinite();  // the request's: it also ends the sequence
};

// Who listens to a sequence. Called on the scheduler's thread (or the subscriber's own); must not
// block or call back.
struct DecodeSubscriber {
  std::function<void(const DecodedToken&)> token;
  std::function<void(const absl::Status&)> ended;  // once, last; OK after the last token
};

// Counters that the scheduler moves; decode_metrics.h exports them. Calls come from the scheduler's
// thread.
class DecodeEvents {
 public:
  virtual ~DecodeEvents() = default;
  // `tokens` were drawn; forced ones do not count.
  virtual void OnStep(int batch, double seconds, int tokens) {}
  // A sequence takes part in its first step, so long after its commit.
  virtual void OnJoined(absl::Duration waited) {}
  virtual void OnSequenceEnded(const absl::Status& status) {}
};

// Continuous batching over one engine: sequences join when their KV is committed, leave at a stop
// id, at max_tokens, on a cancel, or when nobody has listened for a while. A sequence gives its KV
// back as soon as its last token is made; its tokens are kept for the streams that come, or come
// again because the first one broke unseen. Plain core without gRPC; one thread of its own.
// Thread-safe.
class DecodeScheduler {
 public:
  struct Options {
    absl::Duration orphan_timeout =
        absl::Seconds(5);  // without a Decode stream, then all is forgotten
    absl::Duration commit_timeout =
        absl::Seconds(120);  // a Decode stream that waits for its commit
  };
  // `release(reservation_id, handle)` frees a sequence's KV and ends its reservation; it is called
  // on the scheduler's thread without locks. All must outlive it.
  DecodeScheduler(DecodeEngine& engine, const Clock& clock, DecodeEvents& events,
                  std::function<void(const std::string&, int64_t)> release, Options options);
  ~DecodeScheduler();

  // Takes a committed sequence. UNAVAILABLE when shutting down, ALREADY_EXISTS for one that runs.
  absl::Status Activate(const CommittedSequence& sequence);
  // Tokens from `from_index` on go to the subscriber, which replaces an earlier one (ABORTED):
  // those that exist at once, from in here. May come before the commit and then waits, at most
  // commit_timeout. The subscriber hears INVALID_ARGUMENT for a negative index and
  // FAILED_PRECONDITION when the sequence is another request's or attempt's. Returns a number for
  // Unsubscribe.
  int64_t Subscribe(const DecodeSubscription& subscription, DecodeSubscriber subscriber);
  // This subscriber is gone, and is not called any more; the sequence is freed unless another one
  // comes in time. Does nothing when another one has come already.
  void Unsubscribe(const std::string& reservation_id, int64_t number);
  // A reservation ended without a sequence here: tells who waits.
  void OnReservationEnded(const std::string& reservation_id, const absl::Status& why);
  // Frees a sequence. Idempotent.
  void Abort(const std::string& reservation_id);
  // That are being decoded.
  int64_t num_sequences() const;
  // Tokens of these: of their prompts, and as many as may be generated.
  int64_t num_tokens() const;

 private:
  struct Sequence {
    CommittedSequence committed;
    std::vector<int32_t> tokens;  // by index: given, then made
    int64_t next_input = 0;       // index of the token that enters next
    bool done = false;            // the last token is made, and the KV is given back
    absl::Time activated;
    absl::Time orphan_since;  // since when nobody listens
  };
  struct Listener {
    DecodeSubscription subscription;
    DecodeSubscriber subscriber;
    int64_t number = 0;
    int32_t next_index = 0;
    Deadline commit_deadline = Deadline::Infinite();  // counts until the commit
  };

  void Run();
  // One engine step over the active sequences; false when there are none.
  bool StepOnce();
  // All below but Release: the lock is held.
  void DeliverAll();
  void Deliver(const std::string& id, Sequence& sequence);
  void DropLate();
  void GiveBack(const Sequence& sequence, const absl::Status& status);
  void Remove(const std::string& id, const absl::Status& status);
  void EndListener(const std::string& id, const absl::Status& status);
  void Release();
  void Wake();
  DecodedToken Describe(const Sequence& sequence, int32_t index) const;

  DecodeEngine& engine_;
  const Clock& clock_;
  DecodeEvents& events_;
  const std::function<void(const std::string&, int64_t)> release_;
  const Options options_;

  mutable std::mutex mutex_;  // guards all below; not held during an engine step
  std::condition_variable wake_;
  bool stopping_ = false;
  bool woken_ = false;  // there is something to look at
  int64_t next_number_ = 1;
  std::map<std::string, Sequence> sequences_;
  std::map<std::string, Listener> listeners_;
  std::vector<std::string> aborted_;  // to be removed between steps
  std::vector<std::pair<std::string, int64_t>>
      released_;              // told to `release_` once the lock is free
  std::string last_stepped_;  // where the next batch goes on when there are more sequences than fit

  std::thread thread_;
};

}  // namespace winnow
