#pragma once

#include <cstdint>
#include <vector>

namespace winnow {

struct GatedMatmulCase {
  int64_t rows = 0, width = 0, in_features = 0;
  int64_t gap = 0;  // between rows of x

  int64_t x_stride() const { return in_features + gap; }
};

// Around tiles of 128 rows and columns, pairs of them, and steps of 64 along in_features.
inline std::vector<GatedMatmulCase> GatedMatmulTestCases() {
  std::vector<GatedMatmulCase> cases;
  for (const int64_t rows : {1, 63, 65, 127, 128, 129, 255, 257}) cases.push_back({rows, 128, 64});
  for (const int64_t in : {8, 72, 128, 576}) cases.push_back({130, 256, in});
  // Last row tiles that two blocks share.
  for (const int64_t rows : {1, 64, 65, 128, 257, 384, 641}) cases.push_back({rows, 256, 72});
  for (const int64_t rows : {2100, 2400}) cases.push_back({rows, 512, 8});  // in their own group
  cases.push_back({300, 512, 576, 8});
  cases.push_back({40, 384, 200, 16});
  cases.push_back({600, 128, 64});
  return cases;
}

}  // namespace winnow
