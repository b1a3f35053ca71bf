#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/attention.h"

namespace winnow {

// Blocked attention on the CPU, for an instruction set given by Arch (attention_avx512.h, attention_portable.h). For each KV
// head the keys and values are repacked once into panels that the multiply likes; then each thread takes blocks of
// (row, head of the group) pairs and, per tile of kTileRows pairs and kBlockKeys keys, computes scores, a running softmax
// and the weighted values, all of which stay in the L1 cache (6·256 scores are 6 KiB) while K and V stream from L2.
//
// Arch gives:
//   T, Packed           element in memory and in panels
//   kPair               depth elements interleaved in a panel: 2 for bf16 dot products, else 1
//   PackKeys(k, count, head_dim, out)     kPanel keys → [depth/kPair][kPanel][kPair], zero padded
//   PackValues(v, count, head_dim, columns, out)  kBlockKeys keys, kPanel columns → the same with keys as depth
//   PackRow(x, head_dim, out)             a query
//   Multiply<R>(a, lda, depth, b, c, ldc, accumulate)  c[R][kPanel] (+)= a[R][depth] · panel b
//   Softmax(s, valid, width, scale, m, l, p): p[0..width) = exp2(scale·s − m'), masked from valid on; updates the running
//     maximum m (log2 domain) and sum l; returns the factor for what was accumulated before
constexpr int kAttentionPanel = 64;
constexpr int kAttentionBlockKeys = 256;
constexpr int kAttentionTileRows = 6;
constexpr int kAttentionBlockRows = 48;  // (row, head) pairs per unit of work

template <typename Arch>
class BlockedAttention {
  using T = typename Arch::T;
  using Packed = typename Arch::Packed;
  static constexpr int kPanel = kAttentionPanel;
  static constexpr int kKeys = kAttentionBlockKeys;
  static constexpr int kRows = kAttentionTileRows;

 public:
  explicit BlockedAttention(const AttentionParams& p)
      : p_(p), group_(p.q_heads / p.kv_heads), depth_((p.head_dim + Arch::kPair - 1) / Arch::kPair * Arch::kPair),
        columns_((p.head_dim + kPanel - 1) / kPanel), num_keys_(Visible(p.rows - 1)),
        num_blocks_((num_keys_ + kKeys - 1) / kKeys),
        scale_(1.4426950408889634f / std::sqrt(static_cast<float>(p.head_dim))) {}

  void Run() {
    const int64_t pairs = p_.rows * group_;
    const int64_t units = (pairs + kAttentionBlockRows - 1) / kAttentionBlockRows;
    std::vector<Packed> keys(num_blocks_ * kKeys * depth_);
    std::vector<Packed> values(num_blocks_ * kKeys * columns_ * kPanel);
#pragma omp parallel
    {
      Scratch scratch(*this);
      for (int head = 0; head < p_.kv_heads; ++head) {
#pragma omp for
        for (int64_t block = 0; block < num_blocks_; ++block) Pack(head, block, keys.data(), values.data());
        // Later rows see more keys: heavy units first.
#pragma omp for schedule(dynamic, 1)
        for (int64_t unit = 0; unit < units; ++unit) {
          const int64_t begin = (units - 1 - unit) * kAttentionBlockRows;
          RunUnit(head, begin, std::min<int64_t>(pairs, begin + kAttentionBlockRows), keys.data(), values.data(),
                  scratch);
        }
      }
    }
  }

 private:
  struct Scratch {
    explicit Scratch(const BlockedAttention& a)
        : queries(kAttentionBlockRows * a.depth_), weights(kRows * kKeys), scores(kRows * kKeys),
          out(kAttentionBlockRows * a.columns_ * kPanel), highest(kAttentionBlockRows), sum(kAttentionBlockRows) {}
    std::vector<Packed> queries;  // [block rows][depth]
    std::vector<Packed> weights;  // [tile rows][keys]
    std::vector<float> scores;    // [tile rows][keys]
    std::vector<float> out;       // [block rows][columns·panel]
    std::vector<float> highest, sum;
  };

  int64_t Visible(int64_t row) const {
    return p_.first_visible + (p_.positions != nullptr ? p_.positions[row] : row);
  }

  void Pack(int head, int64_t block, Packed* keys, Packed* values) const {
    const int64_t begin = block * kKeys;
    const T* k = static_cast<const T*>(p_.k) + (head * p_.capacity + begin) * p_.head_dim;
    const T* v = static_cast<const T*>(p_.v) + (head * p_.capacity + begin) * p_.head_dim;
    const int64_t count = std::min<int64_t>(kKeys, num_keys_ - begin);
    for (int panel = 0; panel * kPanel < kKeys; ++panel) {
      const int64_t in_panel = std::clamp<int64_t>(count - panel * kPanel, 0, kPanel);
      Arch::PackKeys(k + int64_t{panel} * kPanel * p_.head_dim, static_cast<int>(in_panel), p_.head_dim,
                     keys + (begin + panel * kPanel) * depth_);
    }
    for (int column = 0; column < columns_; ++column) {
      Arch::PackValues(v + column * kPanel, static_cast<int>(count), p_.head_dim,
                       std::min(kPanel, p_.head_dim - column * kPanel),
                       values + (block * columns_ + column) * kKeys * kPanel);
    }
  }

  void RunUnit(int head, int64_t begin, int64_t end, const Packed* keys, const Packed* values, Scratch& s) const {
    const auto pairs = static_cast<int>(end - begin);
    const int width = columns_ * kPanel;
    for (int i = 0; i < pairs; ++i) {
      const int64_t row = (begin + i) / group_, h = head * group_ + (begin + i) % group_;
      Arch::PackRow(static_cast<const T*>(p_.q) + row * p_.q_stride + h * p_.head_dim, p_.head_dim,
                    s.queries.data() + i * depth_);
      s.highest[i] = -1e30f;  // finite, so that differences are never NaN
      s.sum[i] = 0.0f;
    }
    std::memset(s.out.data(), 0, pairs * width * sizeof(float));
    const int64_t last_key = Visible((end - 1) / group_);
    for (int64_t block = 0; block * kKeys < last_key; ++block) {
      int tile = 0;
      for (; tile + kRows <= pairs; tile += kRows) RunTile<kRows>(begin, tile, block, keys, values, s);
      for (; tile < pairs; ++tile) RunTile<1>(begin, tile, block, keys, values, s);
    }
    for (int i = 0; i < pairs; ++i) Finish(head, begin + i, s.out.data() + i * width, s.highest[i], s.sum[i]);
  }

  // Rows [tile, tile + R) of the unit against one block of keys.
  template <int R>
  void RunTile(int64_t begin, int tile, int64_t block, const Packed* keys, const Packed* values, Scratch& s) const {
    const int64_t block_begin = block * kKeys;
    int valid[R];
    for (int r = 0; r < R; ++r) {
      valid[r] = static_cast<int>(
          std::clamp<int64_t>(Visible((begin + tile + r) / group_) - block_begin, 0, kKeys));
    }
    const int used = valid[R - 1];  // visible does not decrease
    if (used == 0) return;
    const int panels = (used + kPanel - 1) / kPanel;
    for (int panel = 0; panel < panels; ++panel) {
      Arch::template Multiply<R>(s.queries.data() + tile * depth_, depth_, depth_,
                                 keys + (block_begin + panel * kPanel) * depth_, s.scores.data() + panel * kPanel,
                                 kKeys, /*accumulate=*/false);
    }
    const int width = columns_ * kPanel;
    for (int r = 0; r < R; ++r) {
      const float factor = Arch::Softmax(s.scores.data() + r * kKeys, valid[r], panels * kPanel, scale_,
                                         &s.highest[tile + r], &s.sum[tile + r], s.weights.data() + r * kKeys);
      if (factor == 1.0f) continue;
      float* out = s.out.data() + (tile + r) * width;
      for (int c = 0; c < width; ++c) out[c] *= factor;
    }
    const int depth = (used + Arch::kPair - 1) / Arch::kPair * Arch::kPair;
    for (int column = 0; column < columns_; ++column) {
      Arch::template Multiply<R>(s.weights.data(), kKeys, depth,
                                 values + (block * columns_ + column) * kKeys * kPanel,
                                 s.out.data() + tile * width + column * kPanel, width, /*accumulate=*/true);
    }
  }

  void Finish(int head, int64_t pair, const float* out, float highest, float sum) const {
    const int64_t row = pair / group_, h = head * group_ + pair % group_;
    T* to = static_cast<T*>(p_.out) + (row * p_.q_heads + h) * p_.head_dim;
    const float inverse = 1.0f / sum;
    for (int c = 0; c < p_.head_dim; ++c) to[c] = FromFloat<T>(out[c] * inverse);
    if (p_.lse != nullptr && row >= p_.lse_begin) {
      p_.lse[h * (p_.rows - p_.lse_begin) + row - p_.lse_begin] = highest * 0.6931471805599453f + std::log(sum);
    }
  }

  const AttentionParams& p_;
  const int group_;
  const int depth_;    // head_dim rounded up to kPair
  const int columns_;  // panels of the output
  const int64_t num_keys_;
  const int64_t num_blocks_;
  const float scale_;  // 1/√d in the log2 domain
};

}  // namespace winnow
