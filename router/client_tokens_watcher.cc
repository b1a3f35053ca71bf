#include "router/client_tokens_watcher.h"

#include "common/log.h"

namespace winnow {

ClientTokensWatcher::ClientTokensWatcher(ClientTokens& tokens, const Clock& clock,
                                         absl::Duration period)
    : tokens_(tokens), clock_(clock), period_(period), thread_([this] { Watch(); }) {}

ClientTokensWatcher::~ClientTokensWatcher() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  stop_.notify_all();
  thread_.join();
}

void ClientTokensWatcher::Watch() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!stopping_) {
    lock.unlock();
    if (const absl::Status read = tokens_.ReloadIfChanged(); !read.ok()) {
      spdlog::error("{}; the clients stay as they were", read.ToString());
    }
    lock.lock();
    clock_.WaitFor(stop_, lock, period_, [this] { return stopping_; });
  }
}

}  // namespace winnow
