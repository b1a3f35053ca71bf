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
#include "decode_worker/decode_events.h"
#include "engine/decode_engine.h"
#include "transfer/handoff_messages.h"

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

// The reader of a sequence. Called on the scheduler's thread or in Subscribe, with locks held: must
// neither block nor call the scheduler.
struct DecodeSubscriber {
  std::function<void(const DecodedToken&)> token;
  std::function<void(const absl::Status&)> ended;  // once, last; OK after the last token
};

// Continuous batching over one engine: sequences join when their KV is committed, and leave at a
// stop id, at max_tokens, on a cancel, or when nobody has listened for a while. A sequence ends as
// soon as its last token is made; its tokens are kept for streams that come late, or come again
// because the first stream broke unseen. One thread of its own. Thread-safe.
class DecodeScheduler {
 public:
  struct Options {
    // A sequence without a Decode stream is cancelled, or forgotten if it has ended, after this.
    absl::Duration orphan_timeout = absl::Seconds(5);
    // A Decode stream waits for its commit at most as long.
    absl::Duration commit_timeout = absl::Seconds(120);
  };
  // A sequence ended, with OK after its last token: its KV is not read any more. Called once for
  // each, on the scheduler's thread without locks. When it returns, no stream may wait for the
  // reservation any more.
  using OnEnded = std::function<void(const std::string& reservation_id, const absl::Status&)>;

  // All must outlive the scheduler.
  DecodeScheduler(DecodeEngine& engine, const Clock& clock, DecodeEvents& events, OnEnded on_ended,
                  Options options);
  ~DecodeScheduler();

  // Takes a committed sequence. UNAVAILABLE when shutting down, ALREADY_EXISTS for one that runs.
  absl::Status Activate(const CommittedSequence& sequence);
  // The subscriber gets the tokens from `from_index` on, those that exist from in here. It replaces
  // an earlier subscriber (ABORTED). If the sequence is not here, `if_absent` decides: OK waits for
  // its commit, at most commit_timeout; an error ends the subscriber. It also ends with
  // INVALID_ARGUMENT for a negative index, with FAILED_PRECONDITION when the sequence is another
  // request's or attempt's. Returns a number for Unsubscribe.
  int64_t Subscribe(const DecodeSubscription& subscription, DecodeSubscriber subscriber,
                    const absl::Status& if_absent = absl::OkStatus());
  // The subscriber is gone and is not called any more; the sequence is cancelled unless another
  // subscriber comes in time. Does nothing when another one has come already.
  void Unsubscribe(const std::string& reservation_id, int64_t number);
  // Ends the subscriber that waits for a commit which will not come. Does nothing if the sequence
  // is here.
  void EndWaiting(const std::string& reservation_id, const absl::Status& why);
  // Ends a sequence before its next step. Idempotent; does nothing if the sequence is not here.
  void Cancel(const std::string& reservation_id);
  int64_t num_sequences() const;  // that are being decoded
  // Tokens of these: of their prompts, and as many as may be generated.
  int64_t num_tokens() const;

 private:
  struct Sequence {
    CommittedSequence committed;
    std::vector<int32_t> tokens;  // by index: given, then made
    int64_t next_input = 0;       // index of the token that enters next
    bool done = false;            // the last token is made: only the tokens are still needed
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
  // Tells on_ended_ what ended. The lock is not held.
  void ReportEnded();
  // The lock is held in all below.
  void DeliverAll();
  void Deliver(const std::string& id, Sequence& sequence);
  void DropLate();
  void End(const std::string& id, const absl::Status& status);
  void Remove(const std::string& id, const absl::Status& status);
  void EndListener(const std::string& id, const absl::Status& status);
  void Wake();
  DecodedToken Describe(const Sequence& sequence, int32_t index) const;

  DecodeEngine& engine_;
  const Clock& clock_;
  DecodeEvents& events_;
  const OnEnded on_ended_;
  const Options options_;

  mutable std::mutex mutex_;  // guards all below; not held during an engine step
  std::condition_variable wake_;
  bool stopping_ = false;
  bool woken_ = false;  // there is something to look at
  int64_t next_number_ = 1;
  std::map<std::string, Sequence> sequences_;
  std::map<std::string, Listener> listeners_;
  std::vector<std::string> cancelled_;                       // to be removed between steps
  std::vector<std::pair<std::string, absl::Status>> ended_;  // for on_ended_, once the lock is free
  std::string last_stepped_;  // where the next batch goes on when there are more sequences than fit

  std::thread thread_;
};

}  // namespace winnow
