#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace winnow {

// What goes wrong at a fault point.
enum class Fault { kNone, kDelay, kHold, kDrop, kCorrupt, kRepeat, kFail, kKill };

const char* FaultName(Fault fault);

// Which fault points go wrong, when and how. Text, one rule a line:
//
//   decode.commit fail after=2 times=1 chance=0.5 on=1 ms=200 code=RESOURCE_EXHAUSTED
//
// The point and the action (delay, hold, drop, corrupt, repeat, fail, kill) are required. A hold
// lasts until no rule holds the point any more. `after` hits
// pass first (0), then at most `times` hits (all) go wrong, each with `chance` (1), drawn from the
// line "seed N" (0). `on` narrows it to one rank or stream (any), `ms` is the length of a delay,
// `code` the status of a failure (UNAVAILABLE). Lines that are empty or start with # say nothing.
// Not thread-safe.
class FaultRules {
 public:
  struct Outcome {
    Fault fault = Fault::kNone;
    absl::Duration delay;                                    // of kDelay
    absl::StatusCode code = absl::StatusCode::kUnavailable;  // of kFail
  };

  FaultRules() = default;
  // INVALID_ARGUMENT with the line.
  static absl::StatusOr<FaultRules> Parse(absl::string_view text);

  // One hit of a point; the first rule that applies decides.
  Outcome Hit(absl::string_view point, int instance);
  // Whether a rule holds the point, however often it was hit.
  bool Holds(absl::string_view point, int instance) const;

 private:
  struct Rule {
    std::string point;
    Outcome outcome;
    int64_t after = 0, times = -1, on = -1;
    double chance = 1.0;
    int64_t hits = 0, fired = 0;
  };
  static absl::StatusOr<Rule> ParseRule(const std::vector<absl::string_view>& words);

  std::vector<Rule> rules_;
  std::mt19937_64 random_;
};

}  // namespace winnow
