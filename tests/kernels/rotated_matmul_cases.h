#pragma once

#include <cstdint>
#include <vector>

namespace winnow {

struct RotatedMatmulCase {
  int64_t rows = 0;
  int64_t heads = 0;  // of queries, or of keys and values together; of 128
  int64_t in_features = 0;
  int64_t gap = 0;             // between rows of x
  int32_t first_position = 0;  // then 3 apart
  float scale = 1.0f;

  int64_t x_stride() const { return in_features + gap; }
};

// Around tiles of 128 rows, pairs of them, row tiles that two blocks share, and steps of 64 along
// in_features.
inline std::vector<RotatedMatmulCase> RotatedMatmulTestCases() {
  return {{1, 2, 64},
          {63, 2, 72, 0, 1000},
          {64, 4, 8, 0, 131071},
          {127, 2, 64, 8, 77, 1.25f},
          {129, 4, 128, 0, 130000},
          {256, 2, 64},
          {257, 4, 200, 16, 5},
          {300, 6, 576},
          {384, 8, 64, 0, 1 << 17},
          {2400, 4, 8, 0, 3}};
}

}  // namespace winnow
