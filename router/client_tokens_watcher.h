#pragma once

#include <condition_variable>
#include <mutex>
#include <thread>

#include "common/clock.h"
#include "router/client_tokens.h"

namespace winnow {

// Reloads client tokens when their file changes, on a thread of its own. A file that cannot be
// taken is logged once, and the clients stay as they were.
class ClientTokensWatcher {
 public:
  // Looks at the file every `period`. Both references must outlive the watcher.
  ClientTokensWatcher(ClientTokens& tokens, const Clock& clock,
                      absl::Duration period = absl::Milliseconds(50));
  // Returns once a reload under way has ended.
  ~ClientTokensWatcher();

 private:
  void Watch();

  ClientTokens& tokens_;
  const Clock& clock_;
  const absl::Duration period_;
  std::mutex mutex_;
  std::condition_variable stop_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace winnow
