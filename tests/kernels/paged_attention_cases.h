#pragma once

#include <cstdint>
#include <vector>

namespace winnow {

struct PagedAttentionCase {
  std::vector<int32_t> lengths;  // entries per sequence
  int block_size = 0;
  int q_heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  int64_t q_gap = 0;  // elements between q's rows

  int64_t batch() const { return static_cast<int64_t>(lengths.size()); }
  int64_t q_stride() const { return int64_t{q_heads} * head_dim + q_gap; }
  int64_t max_blocks() const {
    int64_t most = 0;
    for (const int32_t n : lengths) {
      const int64_t blocks = (n + block_size - 1) / block_size;
      most = blocks > most ? blocks : most;
    }
    return most + 1;
  }
};

// Every head size and group of query heads that a GPU has a kernel for, and lengths that its blocks
// share: 1 part, 2, many, and batches that fill the machine. Lengths around the edges of blocks and
// of the 64 entries of a step; groups that need one tile, a part of one, and two.
inline std::vector<PagedAttentionCase> PagedAttentionTestCases() {
  return {
      {{}, 16, 8, 4, 64},
      {{1}, 16, 8, 4, 64},
      {{15, 16, 17}, 16, 8, 4, 64, 512},
      {{63, 64, 65, 1, 129}, 16, 4, 4, 64},
      {{300, 2}, 7, 8, 2, 128, 8},
      {{200, 33}, 1, 8, 1, 64},
      {{257, 128, 70}, 128, 2, 1, 80},
      {{90}, 64, 16, 2, 128},
      {{40, 500}, 24, 3, 1, 33, 1},
      {{1000, 1, 64, 65, 2500}, 16, 8, 2, 128},
      {{700, 129}, 16, 7, 1, 128},
      {{513}, 16, 4, 4, 128},
      {{513, 31}, 16, 16, 1, 64},
      {{300, 90}, 16, 6, 2, 96},
      {{300, 1025}, 16, 4, 2, 256},
      {std::vector<int32_t>(600, 20), 16, 4, 2, 64},
  };
}

}  // namespace winnow
