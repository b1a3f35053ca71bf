#pragma once

#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

namespace winnow {

// A line on a terminal that says what is waited for, and for how long. Thread-safe.
class Progress {
 public:
  // Nothing is shown unless `enabled`.
  Progress(bool enabled, std::string label);
  ~Progress() { Stop(); }

  void SetLabel(const std::string& label);
  // Wipes the line. At once: whoever has something to print does not wait.
  void Stop();

 private:
  void Run();

  std::mutex mutex_;
  std::condition_variable wake_;
  std::string label_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace winnow
