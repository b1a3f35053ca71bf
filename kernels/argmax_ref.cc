#include "kernels/argmax.h"

#include <cmath>

namespace winnow {

void ArgMaxRef(const ArgMaxParams& p) {
  for (int64_t i = 0; i < p.rows; ++i) {
    const float* row = p.in + i * p.width;
    int64_t best = 0;
    bool is_number = true;
    for (int64_t c = 0; c < p.width; ++c) {
      is_number &= !std::isnan(row[c]);
      if (row[c] > row[best]) best = c;
    }
    p.out[i] = is_number && std::isfinite(row[best]) ? static_cast<int32_t>(best) : -1;
  }
}

}  // namespace winnow
