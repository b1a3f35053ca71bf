#pragma once

#include "absl/status/status.h"

namespace winnow {

// Where an attempt failed.
enum class DriverStage { kPlace, kPrefill, kResend, kDecode };
const char* DriverStageName(DriverStage stage);

// What a RequestDriver reports for counters.
class DriverEvents {
 public:
  virtual ~DriverEvents() = default;
  // An attempt failed and another one follows.
  virtual void OnRetry(DriverStage stage, const absl::Status& reason) {}
  // A decode worker was lost after the commit; the prompt runs again elsewhere. OnRetry follows.
  virtual void OnMigration(const absl::Status& reason) {}
  // The client went away or its deadline passed.
  virtual void OnCancelled(DriverStage stage) {}
};

}  // namespace winnow
