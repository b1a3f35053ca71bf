#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/aligned_array.h"
#include "kernels/attention_arch.h"

namespace winnow {

constexpr int RoundUp(int n, int multiple) { return (n + multiple - 1) / multiple * multiple; }

// Running softmax state of some (row, head) pairs that share a KV head: each is given its query,
// then blocks of keys and values in ascending order, then asked for its output. For one thread.
template <typename T, typename Packed>
class AttentionUnit {
 public:
  AttentionUnit(const AttentionArch<T, Packed>& arch, int head_dim, int max_pairs)
      : arch_(arch),
        head_dim_(head_dim),
        depth_(RoundUp(head_dim, arch.pair)),
        columns_(RoundUp(head_dim, kAttentionPanel)),
        scale_(1.4426950408889634f / std::sqrt(static_cast<float>(head_dim))),
        queries_(int64_t{max_pairs} * depth_),
        weights_(kAttentionTileRows * kAttentionKeys),
        scores_(kAttentionTileRows * kAttentionKeys),
        out_(int64_t{max_pairs} * columns_),
        sums_(int64_t{max_pairs} * kAttentionLanes),
        highest_(max_pairs) {}

  // Pair i starts with query q [head_dim].
  void Start(int i, const T* q) {
    arch_.pack_query(q, head_dim_, queries_.data() + int64_t{i} * depth_);
    std::fill_n(out_.data() + int64_t{i} * columns_, columns_, 0.0f);
    std::fill_n(sums_.data() + int64_t{i} * kAttentionLanes, kAttentionLanes, 0.0f);
    highest_[i] = kAttentionMasked;
  }

  // Pairs [first, first + rows), rows ≤ kAttentionTileRows, take in one block (see AttentionTile)
  // of which they see valid[].
  void Add(int first, int rows, const int* valid, const Packed* keys, const Packed* values) {
    arch_.attend({.queries = queries_.data() + int64_t{first} * depth_,
                  .keys = keys,
                  .values = values,
                  .valid = valid,
                  .out = out_.data() + int64_t{first} * columns_,
                  .highest = highest_.data() + first,
                  .sums = sums_.data() + int64_t{first} * kAttentionLanes,
                  .scores = scores_.data(),
                  .weights = weights_.data(),
                  .rows = rows,
                  .depth = depth_,
                  .columns = columns_,
                  .head_dim = head_dim_,
                  .scale = scale_});
  }

  // Pair i's output [head_dim].
  void Store(int i, T* out) const {
    arch_.store_row(out_.data() + int64_t{i} * columns_, 1.0f / Sum(i), head_dim_, out);
  }
  // Natural log of Σ exp(q·k/√d) over the keys taken in.
  float LogSumExp(int i) const { return highest_[i] * 0.6931471805599453f + std::log(Sum(i)); }

 private:
  float Sum(int i) const {
    float sum = 0.0f;
    for (int lane = 0; lane < kAttentionLanes; ++lane)
      sum += sums_[int64_t{i} * kAttentionLanes + lane];
    return sum;
  }

  const AttentionArch<T, Packed>& arch_;
  const int head_dim_;
  const int depth_;               // head_dim rounded up to the arch's pair
  const int columns_;             // head_dim rounded up to the panel
  const float scale_;             // 1/√d in the log2 domain
  AlignedArray<Packed> queries_;  // [pairs][depth]
  AlignedArray<Packed> weights_;  // [tile rows][keys]
  AlignedArray<float> scores_;    // [tile rows][keys]
  AlignedArray<float> out_;       // [pairs][columns]
  AlignedArray<float> sums_;      // [pairs][lanes]
  std::vector<float> highest_;    // [pairs]
};

// Packs `count` ≤ kAttentionKeys keys and values [count][head_dim] into a block.
template <typename T, typename Packed>
void PackBlock(const AttentionArch<T, Packed>& arch, const T* k, const T* v, int count,
               int head_dim, Packed* keys, Packed* values) {
  const int depth = RoundUp(head_dim, arch.pair);
  for (int j = 0; j < count; j += kAttentionPanel) {
    arch.pack_keys(k + int64_t{j} * head_dim, std::min(kAttentionPanel, count - j), head_dim,
                   keys + int64_t{j} * depth);
  }
  arch.pack_values(v, count, head_dim, values);
}

// Calls f with the best arch that the processor has for this element type.
template <typename F>
void WithAttentionArch(DType dtype, F&& f) {
  if (dtype == DType::kBf16 && CpuHasAvx512Bf16()) {
    f(kAttentionAvx512Bf16);
  } else if (dtype == DType::kBf16) {
    f(kAttentionPortableBf16);
  } else if (CpuHasAvx512()) {
    f(kAttentionAvx512F32);
  } else {
    f(kAttentionPortableF32);
  }
}

}  // namespace winnow
