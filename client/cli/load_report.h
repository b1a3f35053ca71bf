#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "plan/ledger.h"

namespace winnow {

// How one request of a load went; seconds since it was due, so that a client that was late itself
// hides nothing.
struct LoadSample {
  int64_t prompt_tokens = 0;
  double keep_ratio = 1;  // 1: unpruned
  double due_s = 0;       // since the load began
  absl::Status status;
  double ttft_s = 0;           // first token; the rest only when `status` is OK
  double second_token_s = -1;  // −1: there was one token only
  double total_s = 0;
  std::vector<double> inter_token_s;
  int64_t completion_tokens = 0;
  StageTimes stages;  // seconds, as the answer tells them
};

// What a request must reach to count as goodput; 0: nothing.
struct LoadSlo {
  double ttft_s = 0;
  double inter_token_s = 0;  // its mean
};

// The value below which a share `q` of `values` lies, by the nearest rank; 0 for none.
double Percentile(std::vector<double> values, double q);

// Gathers samples. Thread-safe.
class LoadReport {
 public:
  explicit LoadReport(const LoadSlo& slo) : slo_(slo) {}

  void Add(LoadSample sample);
  int64_t num_ok() const;
  int64_t num_failed() const;

  // An object: requests, ok, errors by code, requests a second and tokens a second over `seconds`,
  // goodput (requests within the SLO a second, and their share), and mean, p50, p90, p99 and max in
  // milliseconds of ttft, second_token, inter_token and total, and of ttft by prompt length.
  // `with_each`: also "each", the requests one by one in the order in which they were due, with
  // their stages.
  std::string ToJson(double seconds, bool with_each = false) const;
  // The same as a few lines to read.
  std::string ToText(double seconds) const;

 private:
  const LoadSlo slo_;
  mutable std::mutex mutex_;
  std::vector<LoadSample> samples_;
};

}  // namespace winnow
