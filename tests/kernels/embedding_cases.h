#pragma once

#include <cstdint>
#include <vector>

namespace winnow {

struct EmbeddingCase {
  int64_t rows = 0;
  int64_t hidden = 0;
  int64_t vocabulary = 0;
  int64_t shard_begin = 0;
  int64_t shard_rows = 0;
};

inline std::vector<EmbeddingCase> EmbeddingTestCases() {
  return {{0, 8, 10, 0, 10},     {1, 1, 3, 0, 3},        {5, 7, 11, 0, 11}, {40, 33, 100, 0, 50},
          {40, 33, 100, 50, 50}, {300, 256, 64, 21, 22}, {256, 16, 5, 4, 1}};
}

}  // namespace winnow
