#pragma once

#include <cstdint>
#include <vector>

namespace winnow {

// How tokens are drawn, with everything filled in. Token i uses Philox(seed, i), so that another
// worker continues as the first would have.
struct SamplingParams {
  double temperature = 0.0;  // 0 = greedy
  int top_k = 0;             // 0 = off
  double top_p = 1.0;        // in (0, 1]
  uint64_t seed = 0;
  int max_tokens = 256;                 // ≥ 1
  std::vector<int32_t> stop_token_ids;  // all ids that end the generation

  bool is_greedy() const { return temperature <= 0.0; }
  bool IsStop(int32_t id) const {
    for (int32_t stop : stop_token_ids) {
      if (stop == id) return true;
    }
    return false;
  }
  friend bool operator==(const SamplingParams&, const SamplingParams&) = default;
};

}  // namespace winnow
