#pragma once

#include <cstdint>
#include <vector>

namespace winnow {

struct AttentionCase {
  int64_t rows = 0;
  int q_heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  int64_t first_visible = 1;
  std::vector<int32_t> positions = {};  // empty: consecutive rows
  int64_t lse_begin = -1;               // −1: no lse
  int64_t q_gap = 0;                    // elements between q's rows
  int64_t free_slots = 0;               // capacity beyond the last visible key

  int64_t visible(int64_t row) const {
    return first_visible + (positions.empty() ? row : positions[row]);
  }
  int64_t keys() const { return visible(rows - 1); }
  int64_t capacity() const { return keys() + free_slots; }
  int64_t q_stride() const { return int64_t{q_heads} * head_dim + q_gap; }
  // Of scores and weighted values, over what each row sees.
  double flop() const {
    double pairs = 0;
    for (int64_t i = 0; i < rows; ++i) pairs += static_cast<double>(visible(i));
    return 4.0 * head_dim * q_heads * pairs;
  }
};

// Every (group, head_dim) that is fast, and some that are not; sizes around the edges of tiles (6
// pairs), units (48 pairs), vectors (16 keys), panels (64 keys) and blocks (256 keys).
inline std::vector<AttentionCase> AttentionTestCases() {
  std::vector<AttentionCase> cases = {
      {1, 1, 1, 64, 1, {}, 0},
      {1, 8, 4, 64, 777, {}, 0, 0, 3},
      {1, 8, 1, 128, 256, {}, 0},
      {2, 4, 4, 64, 64, {}, 1, 5},
      {5, 8, 4, 64, 1, {}, 0},
      {7, 8, 4, 64, 250, {}, 3, 64, 9},
      {64, 8, 4, 64, 1, {}, 56, 512},
      {300, 2, 1, 64, 1, {}, 292},
      {130, 4, 1, 128, 60, {}, 0, 0, 1},
      {70, 8, 1, 64, 200, {}, -1},
      {49, 2, 2, 128, 15, {}, 40},
      {50, 4, 2, 80, 230, {}, 0, 16, 2},
      {33, 3, 1, 33, 63, {}, 0, 1, 1},
      {20, 2, 1, 8, 1, {}, 0},
      {12, 2, 1, 256, 100, {}, 0},
      // Kept rows against all keys: gaps, repeats, block edges.
      {9, 8, 4, 64, 1, {0, 0, 3, 254, 255, 256, 257, 511, 800}, 0, 0, 7},
      {7, 4, 1, 128, 1, {62, 63, 64, 64, 300, 301, 640}, 5},
      {6, 2, 1, 64, 1, {511, 511, 511, 511, 511, 511}, 0},
      {13, 2, 2, 80, 2, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 600}, 12},
  };
  for (const int64_t rows : {23, 24, 25, 47, 48, 49}) cases.push_back({rows, 2, 1, 64, 17, {}, 0});
  for (const int64_t keys : {15, 16, 17, 63, 65, 255, 256, 257, 513}) {
    cases.push_back({3, 2, 1, 64, keys, {}, 0, 0, 1});
  }
  return cases;
}

// Consecutive rows of a prompt of `tokens`: the demo model's heads, and an 8B model's.
inline AttentionCase DemoAttention(int64_t tokens) { return {tokens, 8, 4, 64}; }
inline AttentionCase Llama8bAttention(int64_t tokens) { return {tokens, 32, 8, 128}; }

}  // namespace winnow
