#pragma once

#include <cstdint>
#include <vector>

namespace winnow {

struct GatherRowsCase {
  int heads = 1;
  int64_t rows = 0;
  int64_t row_bytes = 0;
  int64_t in_rows = 0;  // per head
  int64_t padding = 0;  // bytes between heads, both sides
  bool shared_index = false;
};

inline std::vector<GatherRowsCase> GatherRowsTestCases() {
  return {{1, 0, 8, 4, 0, true},     {1, 1, 1, 1, 0, true},     {1, 7, 512, 20, 0, false},
          {4, 5, 128, 9, 64, false}, {3, 33, 6, 100, 10, true}, {2, 300, 34, 512, 0, false}};
}

}  // namespace winnow
