#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

namespace winnow {

// Holds threads back until it is opened, for good. Thread-safe.
class Gate {
 public:
  void Open() {
    std::lock_guard<std::mutex> lock(mutex_);
    is_open_ = true;
    opened_.notify_all();
  }
  bool is_open() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return is_open_;
  }
  // False if nobody opens it within 30 s: a test that waits in vain ends.
  bool Wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    return opened_.wait_for(lock, std::chrono::seconds(30), [this] { return is_open_; });
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable opened_;
  bool is_open_ = false;
};

}  // namespace winnow
