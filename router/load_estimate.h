#pragma once

#include <algorithm>
#include <cstdint>

#include "absl/time/time.h"
#include "winnow/v1/model.pb.h"

namespace winnow {

// Estimates a prefill worker's remaining work from its last report, assuming that it works on at
// the rate that it reported. Not thread-safe.
class LoadEstimate {
 public:
  void OnReport(const v1::WorkerLoad& load, absl::Time now) {
    tokens_ = static_cast<double>(load.tokens());
    reported_ = now;
    is_known_ = true;
    if (load.seconds() > 0) tokens_per_second_ = tokens_ / load.seconds();
  }
  bool is_known() const { return is_known_; }
  int64_t TokensAt(absl::Time now) const {
    const double done = tokens_per_second_ * absl::ToDoubleSeconds(now - reported_);
    return static_cast<int64_t>(std::max(0.0, tokens_ - done));
  }

 private:
  bool is_known_ = false;
  double tokens_ = 0;
  double tokens_per_second_ = 0;  // kept while the worker is idle; 0: never reported
  absl::Time reported_;
};

}  // namespace winnow
