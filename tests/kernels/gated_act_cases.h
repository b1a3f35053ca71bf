#pragma once

#include <cstdint>
#include <vector>

namespace winnow {

struct GatedActCase {
  int64_t rows = 0;
  int64_t width = 0;
};

inline std::vector<GatedActCase> GatedActTestCases() {
  return {{0, 16}, {1, 1}, {1, 384}, {3, 15}, {5, 17}, {64, 33}, {65, 384}, {130, 100}};
}
inline std::vector<GatedActCase> GatedActBenchCases() {
  return {{512, 384}, {8192, 384}, {2048, 4096}};
}

}  // namespace winnow
