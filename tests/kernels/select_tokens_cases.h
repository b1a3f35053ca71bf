#pragma once

#include <cstdint>
#include <vector>

namespace winnow {

struct SelectTokensCase {
  int64_t rows = 0;
  int64_t window_begin = 0;
  int64_t num_tokens = 0;
  int64_t num_kept = 0;
  std::vector<int32_t> spans = {};  // begin, end, begin, end, …
};

// No candidate wanted, one, all; spans at the start, at the end, touching, empty.
inline std::vector<SelectTokensCase> SelectTokensTestCases() {
  return {
      {1, 1, 2, 1},
      {1, 1, 2, 2},
      {1, 100, 108, 8},
      {1, 100, 108, 9},
      {1, 100, 108, 50},
      {1, 100, 108, 107},
      {1, 100, 108, 108},
      {4, 1000, 1008, 100},
      {2, 200, 210, 60, {0, 4}},
      {2, 200, 210, 60, {0, 4, 4, 9, 100, 101, 190, 200}},
      {2, 200, 210, 14, {0, 4}},
      {1, 50, 60, 60, {0, 50}},
      {1, 50, 60, 40, {20, 20, 30, 40}},
      {3, 5000, 5008, 500, {0, 64, 1024, 1040}},
      // Around segments of 32,768 positions, and more than a GPU stages.
      {1, 32760, 32768, 300},
      {2, 32764, 32772, 300, {32760, 32764}},
      {1, 66000, 66010, 40, {32760, 32770}},
      // Around shares of eight blocks, the last of them without scores, and more than they stage.
      {2, 16378, 16384, 50},
      {3, 16385, 16392, 60, {500, 530, 16380, 16385}},
      {1, 3000, 17000, 14010, {0, 3}},
      {2, 131064, 131072, 20},
      {1, 420000, 420008, 40, {0, 30}},
  };
}

}  // namespace winnow
