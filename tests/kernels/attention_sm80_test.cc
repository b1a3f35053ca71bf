// What of kernels/attention_sm80* needs no GPU: where tiles lie, which lane holds what, how the
// work is cut. ldmatrix and mma are emulated from the PTX ISA's own tables, not from the layout
// header.

#include "kernels/attention_sm80.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <map>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "kernels/attention_sm80_layout.h"

namespace winnow {
namespace {

using namespace sm80;

constexpr int kLanes = 32;
using Registers = std::array<std::array<int, 2>, 4>;  // of a lane: four pairs of elements

// A tile in shared memory; an element takes two bytes.
template <int kD>
struct Tile {
  explicit Tile(int rows) : elements(rows * kD) {}
  int& At(int row, int column) {
    return elements[(PieceOffset<kD>(row, column / kPieceSize)) / 2 + column % kPieceSize];
  }
  std::vector<int> elements;
};

// ldmatrix.x4: lane 8i + r gives the address of row r of matrix i; a lane gets elements 2(lane % 4)
// and the next of row lane/4, or with .trans of column lane/4, of each.
std::array<Registers, kLanes> LoadMatrix(const std::vector<int>& shared,
                                         const std::array<unsigned, kLanes>& addresses,
                                         bool transposed) {
  std::array<Registers, kLanes> lanes;
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int matrix = 0; matrix < 4; ++matrix) {
      for (int e = 0; e < 2; ++e) {
        const int along = lane % 4 * 2 + e, across = lane / 4;
        const int row = transposed ? along : across, column = transposed ? across : along;
        lanes[lane][matrix][e] = shared.at(addresses[matrix * 8 + row] / 2 + column);
      }
    }
  }
  return lanes;
}

// Fragments of mma.m16n8k16 for 16-bit types, PTX ISA: groupID = lane/4, threadID =
// lane % 4; element i of A: row groupID, + 8 for i = 2, 3, 6, 7; column 2·threadID + i % 2, + 8 for
// i ≥ 4. B: row 2·threadID + i % 2, + 8 for i ≥ 2; column groupID. C: row groupID, + 8 for i ≥ 2;
// column 2·threadID + i % 2.
using Accumulators = std::array<std::array<double, 4>, kLanes>;
void MultiplyAdd(Accumulators& d, const std::array<Registers, kLanes>& a,
                 const std::array<Registers, kLanes>& b, int first_register) {
  double left[16][16], right[16][8];
  for (int lane = 0; lane < kLanes; ++lane) {
    const int group = lane / 4, thread = lane % 4;
    for (int i = 0; i < 8; ++i) {
      const bool low = i == 2 || i == 3 || i == 6 || i == 7;
      left[group + (low ? 8 : 0)][2 * thread + i % 2 + (i >= 4 ? 8 : 0)] = a[lane][i / 2][i % 2];
    }
    for (int i = 0; i < 4; ++i) {
      right[2 * thread + i % 2 + (i >= 2 ? 8 : 0)][group] = b[lane][first_register + i / 2][i % 2];
    }
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int i = 0; i < 4; ++i) {
      for (int k = 0; k < 16; ++k) {
        d[lane][i] += left[lane / 4 + (i >= 2 ? 8 : 0)][k] * right[k][lane % 4 * 2 + i % 2];
      }
    }
  }
}

template <typename Dim>
class AttentionSm80LayoutTest : public ::testing::Test {
 protected:
  static constexpr int kDim = Dim::value;

  // The addresses of ldmatrix for the block [16][16] at (row, 16·step), as the kernel makes them.
  template <typename Row, typename Piece>
  std::array<unsigned, kLanes> Addresses(int row, int step, Row lane_row, Piece lane_piece) {
    std::array<unsigned, kLanes> addresses;
    for (int lane = 0; lane < kLanes; ++lane) {
      const unsigned begin = PieceOffset<kDim>(lane_row(lane), lane_piece(lane));
      addresses[lane] = Further<kDim>(begin, 2 * step) + row * kRowBytes<kDim>;
    }
    return addresses;
  }
  Tile<kDim> RandomTile(int rows, int seed) {
    std::mt19937 random(seed);
    Tile<kDim> tile(rows);
    for (int& x : tile.elements) x = static_cast<int>(random() % 2001) - 1000;
    return tile;
  }
};

using Dims = ::testing::Types<std::integral_constant<int, 64>, std::integral_constant<int, 96>,
                              std::integral_constant<int, 128>>;
TYPED_TEST_SUITE(AttentionSm80LayoutTest, Dims);

TYPED_TEST(AttentionSm80LayoutTest, EveryPieceOfATileHasItsOwnPlace) {
  constexpr int kD = TypeParam::value;
  std::set<int> places;
  for (int row = 0; row < 128; ++row) {
    for (int piece = 0; piece < kPieces<kD>; ++piece) {
      const int offset = PieceOffset<kD>(row, piece);
      EXPECT_EQ(offset % kPieceBytes, 0);
      EXPECT_EQ(offset / kRowBytes<kD>, row);  // within its row
      places.insert(offset);
    }
  }
  EXPECT_EQ(places.size(), 128u * kPieces<kD>);
}

TYPED_TEST(AttentionSm80LayoutTest, EightRowsOfAPieceTouchEveryBankOnce) {
  constexpr int kD = TypeParam::value;
  for (int row = 0; row < 128; row += 8) {
    for (int piece = 0; piece < kPieces<kD>; ++piece) {
      std::set<int> columns;
      for (int r = 0; r < 8; ++r) {
        columns.insert(PieceOffset<kD>(row + r, piece) / kPieceBytes % 8);
      }
      EXPECT_EQ(columns.size(), 8u) << "row " << row << " piece " << piece;
    }
  }
}

TYPED_TEST(AttentionSm80LayoutTest, FurtherFindsThePieceAnywhereInSharedMemory) {
  constexpr int kD = TypeParam::value;
  for (const unsigned base : {0u, 128u, 1024u, 3u * 128, 16384u + 128}) {
    for (int row = 0; row < 64; ++row) {
      for (int first = 0; first < 2; ++first) {
        for (int even = 0; even + first < kPieces<kD>; even += 2) {
          EXPECT_EQ(Further<kD>(base + PieceOffset<kD>(row, first), even),
                    base + PieceOffset<kD>(row, first + even));
        }
      }
    }
  }
}

// As Worker::CopyTile walks: a thread's place of its first row, then constants.
TYPED_TEST(AttentionSm80LayoutTest, CopiesFillATileOnce) {
  constexpr int kD = TypeParam::value;
  for (const int rows : {64, 128}) {
    ASSERT_EQ(rows % kCopyRows<kD>, 0);
    std::vector<int> writes(rows * kPieces<kD>);
    for (int thread = 0; thread < kThreads; ++thread) {
      const int row = CopyRow<kD>(thread), piece = CopyPiece<kD>(thread);
      const int to = PieceOffset<kD>(row, piece);
      for (int r = 0; r < rows; r += kCopyRows<kD>) {
        for (int c = 0; c < kPieces<kD>; c += kRun<kD>) {
          const int place = to + r * kRowBytes<kD> + c * kPieceBytes;
          EXPECT_EQ(place, PieceOffset<kD>(row + r, piece + c));
          ++writes.at(place / kPieceBytes);
        }
      }
    }
    EXPECT_EQ(writes, std::vector<int>(rows * kPieces<kD>, 1));
  }
}

// S = Q·Kᵀ of a warp's 16 rows and 64 keys.
TYPED_TEST(AttentionSm80LayoutTest, LanesHoldTheScoresOfTheirRowsAndKeys) {
  constexpr int kD = TypeParam::value;
  auto q = this->RandomTile(64, 1), k = this->RandomTile(kKeys, 2);
  for (const int first_row : {0, 16, 48}) {
    std::array<Accumulators, kKeys / 8> s = {};
    for (int step = 0; step < kD / 16; ++step) {
      const auto left =
          LoadMatrix(q.elements, this->Addresses(first_row, step, RowOfLeft, PieceOfLeft), false);
      for (int n = 0; n < kKeys / 8; n += 2) {
        const auto right =
            LoadMatrix(k.elements, this->Addresses(8 * n, step, RowOfRight, PieceOfRight), false);
        MultiplyAdd(s[n], left, right, 0);
        MultiplyAdd(s[n + 1], left, right, 2);
      }
    }
    for (int n = 0; n < kKeys / 8; ++n) {
      for (int lane = 0; lane < kLanes; ++lane) {
        for (int i = 0; i < 4; ++i) {
          const int row = first_row + AccumulatorRow(lane, i);
          const int key = 8 * n + AccumulatorColumn(lane, i);
          double expected = 0;
          for (int c = 0; c < kD; ++c) expected += q.At(row, c) * k.At(key, c);
          ASSERT_EQ(s[n][lane][i], expected) << "row " << row << " key " << key;
        }
      }
    }
  }
}

// O = P·V of a warp's 16 rows, P taken from accumulators.
TYPED_TEST(AttentionSm80LayoutTest, LanesHoldTheOutputsOfTheirRowsAndDimensions) {
  constexpr int kD = TypeParam::value;
  auto v = this->RandomTile(kKeys, 3);
  const auto weight = [](int row, int key) { return (row * 37 + key * 11) % 101 - 50; };
  std::array<Accumulators, kD / 8> o = {};
  for (int step = 0; step < kKeys / 16; ++step) {
    std::array<Registers, kLanes> left;
    for (int lane = 0; lane < kLanes; ++lane) {
      for (int i = 0; i < 4; ++i) {  // register i: pair i % 2 of accumulator 2·step + i/2
        for (int e = 0; e < 2; ++e) {
          const int element = i % 2 * 2 + e;
          left[lane][i][e] = weight(AccumulatorRow(lane, element),
                                    8 * (2 * step + i / 2) + AccumulatorColumn(lane, element));
        }
      }
    }
    for (int n = 0; n < kD / 8; n += 2) {
      const auto right =
          LoadMatrix(v.elements, this->Addresses(16 * step, n / 2, RowOfLeft, PieceOfLeft), true);
      MultiplyAdd(o[n], left, right, 0);
      MultiplyAdd(o[n + 1], left, right, 2);
    }
  }
  for (int n = 0; n < kD / 8; ++n) {
    for (int lane = 0; lane < kLanes; ++lane) {
      for (int i = 0; i < 4; ++i) {
        const int row = AccumulatorRow(lane, i), c = 8 * n + AccumulatorColumn(lane, i);
        double expected = 0;
        for (int key = 0; key < kKeys; ++key) expected += weight(row, key) * v.At(key, c);
        ASSERT_EQ(o[n][lane][i], expected) << "row " << row << " dimension " << c;
      }
    }
  }
}

constexpr AttentionSm80Device kA100 = {108, 164 << 10, 40 << 20};
constexpr AttentionSm80Device kRtx4090 = {128, 100 << 10, 72 << 20};

AttentionParams Shape(int64_t rows, int q_heads, int kv_heads, int head_dim) {
  AttentionParams p;
  p.dtype = DType::kBf16;
  p.rows = p.capacity = rows;
  p.q_stride = int64_t{q_heads} * head_dim;
  p.q_heads = q_heads;
  p.kv_heads = kv_heads;
  p.head_dim = head_dim;
  return p;
}

TEST(AttentionSm80PlanTest, TakesLargeBlocksWhereTwoFitAndAreFilled) {
  const auto block_rows = [](const AttentionParams& p, const AttentionSm80Device& device) {
    return PlanAttentionSm80(p, device).block_rows;
  };
  EXPECT_EQ(block_rows(Shape(8192, 32, 8, 128), kA100), 128);
  EXPECT_EQ(block_rows(Shape(8192, 32, 8, 64), kA100), 128);
  EXPECT_EQ(block_rows(Shape(8192, 32, 8, 128), kRtx4090), 64);  // 2 · 65 KiB of 100
  EXPECT_EQ(block_rows(Shape(8192, 32, 8, 64), kRtx4090), 128);
  EXPECT_EQ(block_rows(Shape(1, 32, 8, 128), kA100), 64);
  EXPECT_EQ(block_rows(Shape(863, 32, 8, 128), kA100), 128);  // 27 · 8 = 2 · 108 blocks
  EXPECT_EQ(block_rows(Shape(832, 32, 8, 128), kA100), 64);
  EXPECT_EQ(PlanAttentionSm80(Shape(8192, 32, 8, 128), kA100, 64).block_rows, 64);
  EXPECT_EQ(PlanAttentionSm80(Shape(1, 32, 8, 128), kRtx4090, 128).block_rows, 128);
}

TEST(AttentionSm80PlanTest, HeadsOfAGroupShareABlockByPowersOfTwo) {
  const auto plan = [](int q_heads, int kv_heads) {
    return PlanAttentionSm80(Shape(100, q_heads, kv_heads, 128), kA100, 64);
  };
  EXPECT_EQ(plan(32, 8).pack, 4);
  EXPECT_EQ(plan(32, 8).row_tiles, 7);  // of 16 tokens
  EXPECT_EQ(plan(32, 8).head_tiles, 8);
  EXPECT_EQ(plan(14, 2).pack, 1);
  EXPECT_EQ(plan(14, 2).group_tiles, 7);
  EXPECT_EQ(plan(24, 2).pack, 4);
  EXPECT_EQ(plan(24, 2).group_tiles, 3);
  EXPECT_EQ(plan(64, 1).pack, 16);
  EXPECT_EQ(plan(64, 1).head_tiles, 4);
}

TEST(AttentionSm80PlanTest, ASectionsKeysAndValuesFitTheCache) {
  // 32768 · 128 · 4 bytes = 16 MiB a kv head: one of them in 30 MiB, three in 54.
  const AttentionParams p = Shape(32768, 32, 8, 128);
  EXPECT_EQ(PlanAttentionSm80(p, kA100).section_heads, 1);
  EXPECT_EQ(PlanAttentionSm80(p, kRtx4090).section_heads, 3);
  EXPECT_EQ(PlanAttentionSm80(Shape(2048, 32, 8, 128), kA100).section_heads, 8);
  // A kv head that does not fit stays whole: its seven head tiles run together.
  EXPECT_EQ(PlanAttentionSm80(Shape(100000, 14, 2, 128), kA100).section_heads, 7);
}

TEST(AttentionSm80PlanTest, BlocksCoverEveryRowAndHeadOnce) {
  for (const int64_t rows : {1, 15, 16, 17, 100}) {
    for (const auto& [q_heads, kv_heads] : {std::pair{8, 2}, {14, 2}, {24, 2}, {32, 1}, {3, 3}}) {
      for (const int64_t l2_bytes : {0, 1 << 16, 1 << 24}) {
        for (const int block_rows : {64, 128}) {
          const AttentionParams p = Shape(rows, q_heads, kv_heads, 64);
          const auto plan = PlanAttentionSm80(p, {108, 164 << 10, l2_bytes}, block_rows);
          ASSERT_EQ(plan.block_rows % plan.pack, 0);
          ASSERT_EQ(plan.head_tiles, plan.group_tiles * kv_heads);
          std::map<std::pair<int64_t, int>, int> times;  // of a token and head
          for (int block = 0; block < plan.row_tiles * plan.head_tiles; ++block) {
            const BlockPlace place =
                PlaceOfBlock(block, plan.row_tiles, plan.head_tiles, plan.section_heads);
            for (int row = 0; row < plan.block_rows; ++row) {
              const int64_t token =
                  int64_t{place.row_tile} * (plan.block_rows / plan.pack) + row / plan.pack;
              const int head = place.head_tile * plan.pack + row % plan.pack;
              // All heads of a block read the same keys.
              ASSERT_EQ(head / (q_heads / kv_heads), place.head_tile / plan.group_tiles);
              if (token < rows) ++times[{token, head}];
            }
          }
          EXPECT_EQ(times.size(), static_cast<size_t>(rows * q_heads));
          for (const auto& [where, count] : times) ASSERT_EQ(count, 1);
        }
      }
    }
  }
}

TEST(AttentionSm80PlanTest, ASectionBeginsWithItsLongestRows) {
  const auto places = [](int row_tiles, int head_tiles, int section_heads) {
    std::vector<std::pair<int, int>> all;
    for (int block = 0; block < row_tiles * head_tiles; ++block) {
      const BlockPlace place = PlaceOfBlock(block, row_tiles, head_tiles, section_heads);
      all.emplace_back(place.row_tile, place.head_tile);
    }
    return all;
  };
  const std::vector<std::pair<int, int>> expected = {{1, 0}, {1, 1}, {0, 0},
                                                     {0, 1}, {1, 2}, {0, 2}};
  EXPECT_EQ(places(2, 3, 2), expected);
}

}  // namespace
}  // namespace winnow
