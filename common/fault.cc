#include "common/fault.h"

#ifdef WINNOW_FAULT_POINTS

#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/log.h"
#include "common/read_file.h"

namespace winnow {
namespace {

// The rules of the environment's file, as it is now.
class FaultFile {
 public:
  FaultRules::Outcome Hit(const char* point, int instance) {
    if (path_.empty()) return {};
    std::lock_guard<std::mutex> lock(mutex_);
    Reload();
    return rules_.Hit(point, instance);
  }
  // Returns once the rules no longer hold the point.
  void WaitWhileHeld(const char* point, int instance) {
    const auto is_held = [&] {
      std::lock_guard<std::mutex> lock(mutex_);
      Reload();
      return rules_.Holds(point, instance);
    };
    while (is_held()) absl::SleepFor(absl::Milliseconds(5));
  }

 private:
  static std::string PathOfEnvironment() {
    const char* path = std::getenv("WINNOW_FAULT_FILE");
    return path == nullptr ? "" : path;
  }
  void Reload() {
    std::error_code error;
    const auto written = std::filesystem::last_write_time(path_, error);
    if (error || written == written_) return;
    written_ = written;  // by renaming, so it is always whole
    absl::StatusOr<FaultRules> rules = FaultRules::Parse(ReadFile(path_).value_or(""));
    if (!rules.ok()) spdlog::error("fault points: {}", rules.status().ToString());
    rules_ = rules.ok() ? *std::move(rules) : FaultRules();
  }

  const std::string path_ = PathOfEnvironment();
  std::mutex mutex_;
  std::filesystem::file_time_type written_;
  FaultRules rules_;
};

FaultRules::Outcome Decide(const char* point, int instance) {
  static FaultFile& file = *new FaultFile;  // outlives every thread
  const FaultRules::Outcome outcome = file.Hit(point, instance);
  if (outcome.fault != Fault::kNone) {
    spdlog::warn("fault point {}: {}", point, FaultName(outcome.fault));
  }
  if (outcome.fault == Fault::kDelay) absl::SleepFor(outcome.delay);
  if (outcome.fault == Fault::kHold) file.WaitWhileHeld(point, instance);
  if (outcome.fault == Fault::kKill) kill(getpid(), SIGKILL);
  return outcome;
}

}  // namespace

Fault FaultAt(const char* point, int instance) { return Decide(point, instance).fault; }

absl::Status FailAt(const char* point, int instance) {
  const FaultRules::Outcome outcome = Decide(point, instance);
  if (outcome.fault != Fault::kFail) return absl::OkStatus();
  return absl::Status(outcome.code, absl::StrCat("fault point ", point));
}

}  // namespace winnow

#endif
