#pragma once

#include <cstdint>
#include <vector>

namespace winnow {

struct RmsNormCase {
  int64_t rows = 0;
  int hidden = 0;
  bool with_delta = false;
};

inline std::vector<RmsNormCase> RmsNormTestCases() {
  return {{0, 64, true},  {1, 1, true},    {1, 256, true},   {3, 15, false}, {5, 17, true},
          {64, 33, true}, {65, 64, false}, {130, 256, true}, {7, 4096, true}};
}
inline std::vector<RmsNormCase> RmsNormBenchCases() {
  return {{512, 256, true}, {8192, 256, true}, {2048, 4096, true}};
}

}  // namespace winnow
