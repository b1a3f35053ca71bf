#include "client/cli/progress.h"

#include <chrono>
#include <cstdio>
#include <utility>

namespace winnow {
namespace {

constexpr std::chrono::milliseconds kPeriod(100);
constexpr int kSilentPeriods = 3;  // what is quick needs no line

}  // namespace

Progress::Progress(bool enabled, std::string label) : label_(std::move(label)) {
  if (enabled) thread_ = std::thread([this] { Run(); });
}

void Progress::Run() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (int period = 1; !wake_.wait_for(lock, kPeriod, [this] { return stopping_; }); ++period) {
    if (period >= kSilentPeriods)
      std::fprintf(stderr, "\r%s %.1f s ", label_.c_str(), period / 10.0);
  }
  std::fprintf(stderr, "\r\033[K");
}

void Progress::SetLabel(const std::string& label) {
  std::lock_guard<std::mutex> lock(mutex_);
  label_ = label;
}

void Progress::Stop() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

}  // namespace winnow
