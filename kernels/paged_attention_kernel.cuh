#pragma once

// Attention of one query row per sequence over paged K and V, on the device: behind
// kernels/paged_attention.cu.

#include <cstdint>

#include "kernels/cuda_types.cuh"
#include "kernels/paged_attention.h"

namespace winnow::paged {

constexpr int kThreads = 128;
constexpr int kDims = 8;       // columns of a head per lane
constexpr int kMinSplit = 64;  // parts are multiples of it; shorter ones cost too much
constexpr int kMaxSplits = 128;

// How the work is cut: a block per (part of the entries, group of query heads of one KV head,
// sequence).
struct Cut {
  int lanes = 32;     // that read one entry together: a team
  int heads = 1;      // query heads of a block, a power of two
  int groups = 1;     // blocks for the query heads of one KV head
  int splits = 1;     // parts of a sequence at most
  bool whole = true;  // rows are whole, aligned vectors
};

template <typename T, bool kWhole>
__device__ inline void LoadDims(const T* row, int begin, int head_dim, float (&out)[kDims]) {
  if constexpr (kWhole) {
    if (begin >= head_dim) {
#pragma unroll
      for (int i = 0; i < kDims; ++i) out[i] = 0.0f;
      return;
    }
    constexpr int kSize = Vec16<T>::kSize;
#pragma unroll
    for (int part = 0; part < kDims / kSize; ++part) {
      const auto loaded = reinterpret_cast<const Vec16<T>*>(row + begin)[part];
#pragma unroll
      for (int i = 0; i < kSize; ++i) out[part * kSize + i] = Load(loaded.v[i]);
    }
  } else {
#pragma unroll
    for (int i = 0; i < kDims; ++i) out[i] = begin + i < head_dim ? Load(row[begin + i]) : 0.0f;
  }
}

// values[i] of all lanes of a team summed over the team: lane i gets the sum of values[i], in its
// values[0]. Each round halves what a lane holds, so that there are fewer exchanges than values.
template <int kHalf, int kLanes>
__device__ inline void SumToLanes(float (&values)[kLanes], int lane) {
  if constexpr (kHalf > 0) {
    const bool upper = (lane & kHalf) != 0;
#pragma unroll
    for (int i = 0; i < kHalf; ++i) {
      const float given = upper ? values[i] : values[i + kHalf];
      const float kept = upper ? values[i + kHalf] : values[i];
      values[i] = kept + __shfl_xor_sync(~0u, given, kHalf);
    }
    SumToLanes<kHalf / 2>(values, lane);
  }
}

// What the parts of a sequence leave: per (sequence, query head, part) the maximum of the scores,
// the sum of weights, and the weighted sum of V, all relative to that maximum.
struct Partials {
  float* highest = nullptr;  // [batch][q_heads][splits]
  float* denominators = nullptr;
  float* sums = nullptr;        // [batch][q_heads][splits][head_dim]
  unsigned* arrived = nullptr;  // [batch][kv_heads][groups]: parts that are done
};

// A block's part of the work: entries begin … end − 1 of one sequence, for `num_heads` query heads
// of one KV head.
struct Part {
  int64_t sequence = 0;
  int kv_head = 0;
  int first_head = 0, num_heads = 0;
  int32_t begin = 0, end = 0;
  int32_t length = 0, per_split = 0;  // of the sequence, and of each of its parts but the last

  __device__ bool IsEmpty() const { return begin >= length; }
  __device__ int NumParts() const { return (length + per_split - 1) / per_split; }
  // The row of its first head in tensors [batch][q_heads].
  __device__ int64_t Row(const PagedAttentionParams& p) const {
    return sequence * p.q_heads + first_head;
  }
};

// How kThreads lanes read: a team of kLanes lanes takes kRows entries at a time, for all query
// heads of the block; kRows · kHeads scores fill its lanes.
template <int kLanes, int kHeads>
struct Teams {
  static constexpr int kRows = kLanes / kHeads;
  static constexpr int kTeams = kThreads / kLanes;
  static constexpr int kPass = kTeams * kRows;  // entries that the block reads at once
};

template <int kLanes, int kHeads>
struct PagedAttentionShared {
  using Shape = Teams<kLanes, kHeads>;
  float highest[Shape::kTeams][kHeads], denominators[Shape::kTeams][kHeads];
  float shares[kHeads][kMaxSplits];  // of the parts in the result
  bool is_last;                      // this block, of the sequence's parts
};

template <int kHeads, int kPass>
__device__ __forceinline__ Part MakePart(const PagedAttentionParams& p, const Cut& cut) {
  Part part;
  part.sequence = blockIdx.z;
  part.kv_head = blockIdx.y / cut.groups;
  const int group = p.q_heads / p.kv_heads;
  const int within = blockIdx.y % cut.groups * kHeads;  // of the group's heads
  part.num_heads = min(kHeads, group - within);
  part.first_head = part.kv_head * group + within;
  part.length = p.lengths[part.sequence];
  constexpr int kGrain = kPass > kMinSplit ? kPass : kMinSplit;
  part.per_split = ((part.length + cut.splits - 1) / cut.splits + kGrain - 1) / kGrain * kGrain;
  part.begin = blockIdx.x * part.per_split;
  part.end = min(part.length, part.begin + part.per_split);
  return part;
}

// A lane of a team, on its way through the part's entries.
template <typename T, int kLanes, int kHeads, bool kWhole>
struct Reader {
  using Shape = Teams<kLanes, kHeads>;
  static constexpr int kRows = Shape::kRows, kPass = Shape::kPass;

  const PagedAttentionParams& p;
  const Part& part;
  const int32_t* blocks;  // of the sequence
  const int team = threadIdx.x / kLanes, lane = threadIdx.x % kLanes, column = lane * kDims;
  const int my_row = lane % kRows;
  float query[kHeads][kDims];  // scaled for powers of two
  float sum[kHeads][kDims] = {};
  float top = -INFINITY, denominator = 0.0f;  // of head lane / kRows; the sum of row my_row alone

  __device__ __forceinline__ void LoadQuery() {
    const float scale = 1.44269504f / sqrtf(static_cast<float>(p.head_dim));
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      const T* q = static_cast<const T*>(p.q) + part.sequence * p.q_stride +
                   int64_t{part.first_head + min(h, part.num_heads - 1)} * p.head_dim;
#pragma unroll
      for (int i = 0; i < kDims; ++i) {
        query[h][i] = column + i < p.head_dim ? Load(q[column + i]) * scale : 0.0f;
      }
    }
  }

  // Row of the pool that holds entry j, of this KV head.
  __device__ __forceinline__ int32_t RowOf(int32_t j) const {
    const int32_t block = j / p.block_size;
    return (blocks[block] * p.kv_heads + part.kv_head) * p.block_size + j - block * p.block_size;
  }

  // Of the scores of kRows keys and kHeads queries, this lane's: head lane / kRows, row my_row.
  __device__ __forceinline__ float Score(const T* const (&k)[kRows]) const {
    float dots[kLanes];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      float key[kDims];
      LoadDims<T, kWhole>(k[r], column, p.head_dim, key);
#pragma unroll
      for (int h = 0; h < kHeads; ++h) {
        float dot = 0.0f;
#pragma unroll
        for (int i = 0; i < kDims; ++i) dot += query[h][i] * key[i];
        dots[h * kRows + r] = dot;
      }
    }
    SumToLanes<kLanes / 2>(dots, lane);
    return dots[0];
  }

  // Takes the highest of the new scores as `top` and makes the sums relative to it.
  __device__ __forceinline__ void Raise(float score) {
    float best = score;
#pragma unroll
    for (int other = 1; other < kRows; other *= 2) {
      best = fmaxf(best, __shfl_xor_sync(~0u, best, other));
    }
    best = fmaxf(best, top);
    if (!__any_sync(~0u, best > top)) return;
    const float old = top == best ? 1.0f : exp2f(top - best);
    denominator *= old;
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      const float factor = __shfl_sync(~0u, old, h * kRows, kLanes);
#pragma unroll
      for (int i = 0; i < kDims; ++i) sum[h][i] *= factor;
    }
    top = best;
  }

  __device__ __forceinline__ void AddValues(const T* const (&v)[kRows], float weight) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      float value[kDims];
      LoadDims<T, kWhole>(v[r], column, p.head_dim, value);
#pragma unroll
      for (int h = 0; h < kHeads; ++h) {
        const float w = __shfl_sync(~0u, weight, h * kRows + r, kLanes);
#pragma unroll
        for (int i = 0; i < kDims; ++i) sum[h][i] += w * value[i];
      }
    }
  }

  __device__ __forceinline__ void Read() {
    int32_t first = part.begin + team * kRows;
    // A row that is not there is another one, whose weight is set to 0.
    int32_t next_row = RowOf(first + my_row < part.end ? first + my_row : part.begin);
    for (int32_t pass = part.begin; pass < part.end; pass += kPass, first += kPass) {
      const int32_t row = next_row;
      const int32_t ahead = first + kPass + my_row;
      next_row = RowOf(ahead < part.end ? ahead : part.begin);
      const T *k[kRows], *v[kRows];
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const int64_t at = int64_t{__shfl_sync(~0u, row, r, kLanes)} * p.head_dim;
        k[r] = static_cast<const T*>(p.k_blocks) + at;
        v[r] = static_cast<const T*>(p.v_blocks) + at;
      }
      const bool is_there = first + my_row < part.end;
      const float score = Score(k);
      Raise(is_there ? score : -INFINITY);
      const float weight = is_there ? exp2f(score - top) : 0.0f;
      denominator += weight;
      AddValues(v, weight);
    }
  }

  // Leaves what the team has read in shared memory; sums: [kTeams][kHeads][head_dim].
  __device__ __forceinline__ void Leave(PagedAttentionShared<kLanes, kHeads>& shared, float* sums) {
#pragma unroll
    for (int other = 1; other < kRows; other *= 2) {
      denominator += __shfl_xor_sync(~0u, denominator, other);
    }
    if (my_row == 0) {
      shared.highest[team][lane / kRows] = top;
      shared.denominators[team][lane / kRows] = denominator;
    }
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
#pragma unroll
      for (int i = 0; i < kDims; ++i) {
        if (column + i < p.head_dim) {
          sums[(team * kHeads + h) * p.head_dim + column + i] = sum[h][i];
        }
      }
    }
  }
};

// The result, of what the teams left, if the sequence has one part; else the part's partials.
template <typename T, int kLanes, int kHeads>
__device__ __forceinline__ void MergeTeams(const PagedAttentionParams& p, const Cut& cut,
                                           const Part& part, int num_parts,
                                           const PagedAttentionShared<kLanes, kHeads>& shared,
                                           const float* sums, const Partials& partials) {
  constexpr int kTeams = Teams<kLanes, kHeads>::kTeams;
  T* const out = static_cast<T*>(p.out) + part.Row(p) * p.head_dim;
  const int64_t part0 = part.Row(p) * cut.splits;
  for (int at = threadIdx.x; at < part.num_heads * p.head_dim; at += kThreads) {
    const int h = at / p.head_dim;
    float best = -INFINITY, total = 0.0f, value = 0.0f;
    for (int t = 0; t < kTeams; ++t) best = fmaxf(best, shared.highest[t][h]);
    for (int t = 0; t < kTeams; ++t) {
      const float factor = exp2f(shared.highest[t][h] - best);
      total += shared.denominators[t][h] * factor;
      value += sums[(t * kHeads + h) * p.head_dim + at % p.head_dim] * factor;
    }
    if (num_parts == 1) {
      out[at] = Store<T>(value / total);
      continue;
    }
    const int64_t index = part0 + h * cut.splits + blockIdx.x;
    partials.sums[index * p.head_dim + at % p.head_dim] = value;
    if (at % p.head_dim == 0) {
      partials.highest[index] = best;
      partials.denominators[index] = total;
    }
  }
}

// Whether this block's partials are the last of the sequence's; they and all others are visible
// then.
__device__ __forceinline__ bool ArrivesLast(const Part& part, int num_parts,
                                            const Partials& partials, bool& is_last) {
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    unsigned* arrived = &partials.arrived[part.sequence * gridDim.y + blockIdx.y];
    is_last = atomicAdd(arrived, 1u) + 1 == num_parts;
    if (is_last) *arrived = 0;  // for the next launch
  }
  __syncthreads();
  if (!is_last) return false;
  __threadfence();
  return true;
}

// The result, of all parts' partials.
template <typename T, int kHeads>
__device__ __forceinline__ void MergeParts(const PagedAttentionParams& p, const Cut& cut,
                                           const Part& part, int num_parts,
                                           float (&shares)[kHeads][kMaxSplits],
                                           const Partials& partials) {
  T* const out = static_cast<T*>(p.out) + part.Row(p) * p.head_dim;
  const int64_t part0 = part.Row(p) * cut.splits;
  // Each part's share of the result, by a warp per head.
  for (int h = threadIdx.x / 32; h < part.num_heads; h += kThreads / 32) {
    const int64_t parts = part0 + int64_t{h} * cut.splits;
    float best = -INFINITY, total = 0.0f;
    for (int i = threadIdx.x % 32; i < num_parts; i += 32) {
      best = fmaxf(best, partials.highest[parts + i]);
    }
    best = WarpMax(best);
    for (int i = threadIdx.x % 32; i < num_parts; i += 32) {
      shares[h][i] = exp2f(partials.highest[parts + i] - best);
      total += partials.denominators[parts + i] * shares[h][i];
    }
    total = WarpSum(total);
    for (int i = threadIdx.x % 32; i < num_parts; i += 32) shares[h][i] /= total;
  }
  __syncthreads();
  for (int at = threadIdx.x; at < part.num_heads * p.head_dim; at += kThreads) {
    const int h = at / p.head_dim;
    const float* part_sums =
        partials.sums + (part0 + int64_t{h} * cut.splits) * p.head_dim + at % p.head_dim;
    float value = 0.0f;
#pragma unroll 8
    for (int i = 0; i < num_parts; ++i) value += part_sums[int64_t{i} * p.head_dim] * shares[h][i];
    out[at] = Store<T>(value);
  }
}

// Teams merge in shared memory, parts in device memory by whoever is last.
template <typename T, int kLanes, int kHeads, bool kWhole>
__global__ void __launch_bounds__(kThreads)
    PagedAttentionKernel(PagedAttentionParams p, Cut cut, Partials partials) {
  __shared__ PagedAttentionShared<kLanes, kHeads> shared;
  extern __shared__ float sums[];  // [kTeams][kHeads][head_dim]
  const Part part = MakePart<kHeads, Teams<kLanes, kHeads>::kPass>(p, cut);
  if (part.IsEmpty()) return;
  const int num_parts = part.NumParts();
  {
    Reader<T, kLanes, kHeads, kWhole> reader{p, part,
                                             p.block_table + part.sequence * p.table_stride};
    reader.LoadQuery();
    reader.Read();
    reader.Leave(shared, sums);
  }
  __syncthreads();
  MergeTeams<T, kLanes, kHeads>(p, cut, part, num_parts, shared, sums, partials);
  if (num_parts == 1) return;
  if (!ArrivesLast(part, num_parts, partials, shared.is_last)) return;
  MergeParts<T, kHeads>(p, cut, part, num_parts, shared.shares, partials);
}

}  // namespace winnow::paged
