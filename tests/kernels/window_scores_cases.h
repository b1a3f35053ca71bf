#pragma once

#include <cstdint>
#include <vector>

namespace winnow {

struct WindowScoresCase {
  int64_t window_begin = 0;
  int window = 0;
  int pool_kernel = 1;
  int q_heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  int64_t free_slots = 0;

  int64_t capacity() const { return window_begin + window + free_slots; }
};

// Fewer keys than the pool reaches; edges of panels (64 keys) and of ranges of pooling (1024).
inline std::vector<WindowScoresCase> WindowScoresTestCases() {
  return {
      {1, 1, 1, 1, 1, 64},       {1, 8, 7, 2, 1, 64},          {2, 8, 15, 8, 4, 64},
      {56, 8, 7, 8, 4, 64, 3},   {57, 8, 15, 4, 4, 64},        {63, 1, 7, 8, 1, 128},
      {64, 3, 31, 2, 2, 80},     {65, 33, 7, 8, 4, 64, 1},     {500, 8, 7, 4, 1, 128},
      {1024, 8, 15, 8, 4, 64},   {1025, 8, 15, 8, 4, 64, 100}, {1023, 5, 1, 3, 1, 33},
      {2050, 2, 2049, 1, 1, 16}, {127, 8, 7, 32, 8, 128},      {120, 8, 7, 32, 8, 128},
      {129, 9, 7, 6, 2, 128},    {4001, 16, 7, 16, 2, 64, 5},
  };
}

}  // namespace winnow
