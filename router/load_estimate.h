#pragma once

#include <algorithm>
#include <cstdint>

#include "absl/time/time.h"
#include "winnow/v1/model.pb.h"

namespace winnow {

// What a prefill worker has to do by now, from its last word: it goes on working at the rate that
// it told, whether it speaks or not. Not thread-safe.
class LoadEstimate {
 public:
  void OnWord(const v1::WorkerLoad& load, absl::Time now) {
    tokens_ = static_cast<double>(load.tokens());
    said_ = now;
    is_known_ = true;
    if (load.seconds() > 0) tokens_per_second_ = tokens_ / load.seconds();
  }
  bool is_known() const { return is_known_; }
  int64_t TokensAt(absl::Time now) const {
    const double done = tokens_per_second_ * absl::ToDoubleSeconds(now - said_);
    return static_cast<int64_t>(std::max(0.0, tokens_ - done));
  }

 private:
  bool is_known_ = false;
  double tokens_ = 0;
  double tokens_per_second_ = 0;  // kept while it is idle; 0: never told
  absl::Time said_;
};

}  // namespace winnow
