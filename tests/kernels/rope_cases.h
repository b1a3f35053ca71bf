#pragma once

#include <cstdint>
#include <vector>

namespace winnow {

struct RopeCase {
  int64_t rows = 0;
  int heads = 0;
  int head_dim = 0;
  int64_t gap = 0;  // x_stride beyond heads · head_dim; for StoreKv, free slots before and after
  int32_t first_position = 0;  // then 3 apart
  float scale = 1.0f;
};

inline std::vector<RopeCase> RopeTestCases() {
  return {{0, 4, 64},
          {1, 1, 2},
          {1, 8, 64, 0, 131071},
          {3, 2, 6, 5, 1},
          {5, 3, 34, 7, 1000},
          {64, 4, 64, 0, 0},
          {65, 4, 64, 3, 4096, 1.25f},
          {100, 8, 128, 16, 100000}};
}
inline std::vector<RopeCase> RopeBenchCases() {
  return {{512, 8, 64}, {8192, 8, 64}, {2048, 32, 128}};
}

}  // namespace winnow
