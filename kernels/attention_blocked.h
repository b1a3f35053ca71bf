#pragma once

#include <algorithm>

#include "kernels/aligned_array.h"
#include "kernels/attention.h"
#include "kernels/attention_arch.h"
#include "kernels/attention_unit.h"

namespace winnow {

// Blocked attention on the CPU with the inner loops of an AttentionArch. For each KV head the keys
// and values are repacked once into panels; then each thread takes units of (row, head of the
// group) pairs, so that a group's heads share what is read of K and V. A unit goes through the
// blocks of keys that its last row sees; per block, tiles of kAttentionTileRows pairs compute
// scores, a running softmax and the weighted values, which all stay in the L1 cache (scores of a
// tile: 6 KiB) while the block's K and V stream from L2 (64 KiB with bf16 and head_dim 64). What a
// row's output is does not depend on the rows around it or on the threads: a prompt may be cut into
// chunks anywhere.
template <typename T, typename Packed>
class BlockedAttention {
 public:
  BlockedAttention(const AttentionParams& p, const AttentionArch<T, Packed>& arch)
      : p_(p),
        arch_(arch),
        group_(p.q_heads / p.kv_heads),
        depth_(RoundUp(p.head_dim, arch.pair)),
        columns_(RoundUp(p.head_dim, kAttentionPanel)),
        pairs_(p.rows * group_),
        num_keys_(p.rows > 0 ? Visible(p.rows - 1) : 0),
        num_blocks_((num_keys_ + kAttentionKeys - 1) / kAttentionKeys) {}

  void Run() {
    const int64_t units = (pairs_ + kUnitPairs - 1) / kUnitPairs;
    // Two heads' worth, so that threads that run out of a head's units pack the next head. Kept
    // from call to call: fresh memory of this size costs a page fault per 4 KiB, a tenth of a short
    // call.
    static thread_local Panels kept[2];
    Panels* const panels = kept;  // of this thread, in the whole team
    for (int i = 0; i < 2; ++i) panels[i].Reserve(*this);
#pragma omp parallel
    {
      AttentionUnit<T, Packed> unit(arch_, p_.head_dim, kUnitPairs);
      for (int head = 0; head <= p_.kv_heads; ++head) {
        if (head > 0) {
          // Later rows see more keys: heavy units first.
#pragma omp for schedule(dynamic, 1) nowait
          for (int64_t i = 0; i < units; ++i) {
            RunUnit(head - 1, (units - 1 - i) * kUnitPairs, panels[(head - 1) % 2], unit);
          }
        }
        if (head < p_.kv_heads) {
          // Its barrier ends the units above, too.
#pragma omp for schedule(dynamic, 1)
          for (int64_t block = 0; block < num_blocks_; ++block) Pack(head, block, panels[head % 2]);
        }
      }
    }
  }

 private:
  static constexpr int kTile = kAttentionTileRows;
  static constexpr int kUnitPairs = 8 * kTile;

  struct Panels {
    void Reserve(const BlockedAttention& a) {
      keys.Reserve(a.num_blocks_ * kAttentionKeys * a.depth_);
      values.Reserve(a.num_blocks_ * kAttentionKeys * a.columns_);
    }
    AlignedArray<Packed> keys;    // [block][AttentionTile::keys]
    AlignedArray<Packed> values;  // [block][AttentionTile::values]
  };

  int64_t Visible(int64_t row) const {
    return p_.first_visible + (p_.positions != nullptr ? p_.positions[row] : row);
  }
  int64_t Row(int64_t pair) const { return pair / group_; }
  int Head(int kv_head, int64_t pair) const {
    return kv_head * group_ + static_cast<int>(pair % group_);
  }

  void Pack(int kv_head, int64_t block, Panels& panels) const {
    const int64_t begin = block * kAttentionKeys;
    const int64_t at = (kv_head * p_.capacity + begin) * p_.head_dim;
    PackBlock(arch_, static_cast<const T*>(p_.k) + at, static_cast<const T*>(p_.v) + at,
              static_cast<int>(std::min<int64_t>(kAttentionKeys, num_keys_ - begin)), p_.head_dim,
              panels.keys.data() + begin * depth_, panels.values.data() + begin * columns_);
  }

  void RunUnit(int kv_head, int64_t begin, const Panels& panels,
               AttentionUnit<T, Packed>& unit) const {
    const auto pairs = static_cast<int>(std::min<int64_t>(kUnitPairs, pairs_ - begin));
    int64_t visible[kUnitPairs];
    for (int i = 0; i < pairs; ++i) {
      const int64_t row = Row(begin + i);
      visible[i] = Visible(row);
      unit.Start(i, static_cast<const T*>(p_.q) + row * p_.q_stride +
                        int64_t{Head(kv_head, begin + i)} * p_.head_dim);
    }
    const int64_t last_key = Visible(Row(begin + pairs - 1));
    for (int64_t key = 0; key < last_key; key += kAttentionKeys) {
      for (int tile = 0; tile < pairs; tile += kTile) {
        const int rows = std::min(kTile, pairs - tile);
        int valid[kTile];
        for (int r = 0; r < rows; ++r) {
          valid[r] =
              static_cast<int>(std::clamp<int64_t>(visible[tile + r] - key, 0, kAttentionKeys));
        }
        if (valid[rows - 1] == 0) continue;
        unit.Add(tile, rows, valid, panels.keys.data() + key * depth_,
                 panels.values.data() + key * columns_);
      }
    }
    for (int i = 0; i < pairs; ++i) Finish(kv_head, begin + i, i, unit);
  }

  // Writes pair `pair`, which is the i-th of the unit.
  void Finish(int kv_head, int64_t pair, int i, const AttentionUnit<T, Packed>& unit) const {
    const int64_t row = Row(pair);
    const int64_t h = Head(kv_head, pair);
    unit.Store(i, static_cast<T*>(p_.out) + (row * p_.q_heads + h) * p_.head_dim);
    if (p_.lse != nullptr && row >= p_.lse_begin) {
      p_.lse[h * (p_.rows - p_.lse_begin) + row - p_.lse_begin] = unit.LogSumExp(i);
    }
  }

  const AttentionParams& p_;
  const AttentionArch<T, Packed>& arch_;
  const int group_;
  const int depth_;    // head_dim rounded up to the arch's pair
  const int columns_;  // head_dim rounded up to the panel
  const int64_t pairs_;
  const int64_t num_keys_;
  const int64_t num_blocks_;
};

}  // namespace winnow
