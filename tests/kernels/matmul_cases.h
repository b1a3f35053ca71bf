#pragma once

#include <cstdint>
#include <vector>

namespace winnow {

struct MatmulCase {
  int64_t rows = 0;
  int64_t out_features = 0;
  int64_t in_features = 0;
  int64_t x_stride = 0;  // 0: in_features
  int64_t stride() const { return x_stride == 0 ? in_features : x_stride; }
};

// Odd sizes around the blocks of 16, 32 and 64, no rows, one row, a few rows, rows that lie apart.
inline std::vector<MatmulCase> MatmulTestCases() {
  return {{0, 16, 16},          {1, 1, 1},
          {1, 512, 256},        {1, 77, 33, 40},
          {2, 77, 33},          {7, 512, 256},
          {5, 65, 129, 131},    {16, 64, 64},
          {33, 31, 17},         {63, 256, 384},
          {64, 768, 256},       {65, 100, 500, 512},
          {128, 256, 512, 520}, {300, 512, 256, 300},
          {513, 96, 80}};
}

// The demo model's layers (hidden 256, q 512, kv 512, o, gate+up 768, down from 384), its
// vocabulary, and large squares.
inline std::vector<MatmulCase> MatmulBenchCases() {
  std::vector<MatmulCase> cases;
  for (const int64_t rows : {512, 2048, 8192}) {
    cases.push_back({rows, 512, 256});
    cases.push_back({rows, 256, 512});
    cases.push_back({rows, 768, 256});
    cases.push_back({rows, 256, 384});
  }
  cases.push_back({1, 4096, 256});
  cases.push_back({2048, 2048, 2048});
  cases.push_back({4096, 4096, 4096});
  return cases;
}

}  // namespace winnow
