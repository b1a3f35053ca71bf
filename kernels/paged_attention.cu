#include "kernels/paged_attention.h"

#include <algorithm>

#include "kernels/cuda_types.cuh"

namespace winnow {
namespace {

constexpr int kThreads = 128;
constexpr int kDims = 8;                // columns of a head per lane
constexpr int kMaxHeads = 8;            // query heads that share one reading of K and V
constexpr int kMinSplit = 64;           // parts are multiples of it; shorter ones cost too much
constexpr int kBlocksPerProcessor = 4;  // that are wanted: a wave, or two
constexpr int kMaxSplits = 128;
constexpr int64_t kMaxCounters = 65536;

// How the work is cut: a block per (part of the entries, group of query heads of one KV head,
// sequence).
struct Cut {
  int lanes = 32;     // that read one entry together: a team
  int heads = 1;      // query heads of a block, a power of two
  int groups = 1;     // blocks for the query heads of one KV head
  int splits = 1;     // parts of a sequence at most
  bool whole = true;  // rows are whole, aligned vectors
};

int NumProcessors() {
  static const int count = [] {
    int device = 0, processors = 0;
    cudaGetDevice(&device);
    cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
    return std::max(processors, 1);
  }();
  return count;
}

Cut MakeCut(const PagedAttentionParams& p) {
  Cut cut;
  cut.whole = p.head_dim % kDims == 0 && IsAligned16(p.k_blocks) && IsAligned16(p.v_blocks);
  const int group = p.q_heads / p.kv_heads;
  if (cut.whole) {
    cut.lanes = p.head_dim <= 8 * kDims ? 8 : p.head_dim <= 16 * kDims ? 16 : 32;
    while (cut.heads < std::min(group, kMaxHeads)) cut.heads *= 2;
  }
  cut.groups = (group + cut.heads - 1) / cut.heads;
  const int64_t blocks = p.batch * p.kv_heads * cut.groups;
  if (blocks > kMaxCounters) return cut;
  cut.splits = static_cast<int>(std::clamp<int64_t>(
      kBlocksPerProcessor * NumProcessors() / std::max<int64_t>(blocks, 1), 1, kMaxSplits));
  return cut;
}

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

// A team of lanes takes kRows entries at a time, for all query heads of the block; kRows · kHeads
// scores fill its lanes. Teams merge in shared memory, parts in device memory by whoever is last.
template <typename T, int kLanes, int kHeads, bool kWhole>
__global__ void __launch_bounds__(kThreads)
    PagedAttentionKernel(PagedAttentionParams p, Cut cut, Partials partials) {
  constexpr int kRows = kLanes / kHeads, kTeams = kThreads / kLanes, kPass = kTeams * kRows;
  __shared__ float highest[kTeams][kHeads], denominators[kTeams][kHeads];
  extern __shared__ float sums[];  // [kTeams][kHeads][head_dim]
  __shared__ bool is_last;

  const int64_t sequence = blockIdx.z;
  const int kv_head = blockIdx.y / cut.groups;
  const int group = p.q_heads / p.kv_heads;
  const int first_head = blockIdx.y % cut.groups * kHeads;  // within the group
  const int num_heads = min(kHeads, group - first_head);
  const int head0 = kv_head * group + first_head;
  const int32_t length = p.lengths[sequence];
  constexpr int kGrain = kPass > kMinSplit ? kPass : kMinSplit;
  const int32_t per_split = ((length + cut.splits - 1) / cut.splits + kGrain - 1) / kGrain * kGrain;
  const int32_t begin = blockIdx.x * per_split;
  if (begin >= length) return;
  const int32_t end = min(length, begin + per_split);
  const int num_parts = (length + per_split - 1) / per_split;
  const int32_t* blocks = p.block_table + sequence * p.table_stride;

  const int team = threadIdx.x / kLanes, lane = threadIdx.x % kLanes, column = lane * kDims;
  const float scale = 1.44269504f / sqrtf(static_cast<float>(p.head_dim));  // for powers of two
  float query[kHeads][kDims], sum[kHeads][kDims] = {};
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    const T* q = static_cast<const T*>(p.q) + sequence * p.q_stride +
                 int64_t{head0 + min(h, num_heads - 1)} * p.head_dim;
#pragma unroll
    for (int i = 0; i < kDims; ++i) {
      query[h][i] = column + i < p.head_dim ? Load(q[column + i]) * scale : 0.0f;
    }
  }
  // Row of the pool that holds entry j, of this KV head.
  const auto row_of = [&](int32_t j) {
    const int32_t block = j / p.block_size;
    return (blocks[block] * p.kv_heads + kv_head) * p.block_size + j - block * p.block_size;
  };
  const int my_row = lane % kRows;
  float top = -INFINITY, denominator = 0.0f;  // of head lane / kRows; the sum of row my_row alone
  int32_t first = begin + team * kRows;
  // A row that is not there is another one, whose weight is set to 0.
  int32_t next_row = row_of(first + my_row < end ? first + my_row : begin);
  for (int32_t pass = begin; pass < end; pass += kPass, first += kPass) {
    const int32_t row = next_row;
    const int32_t ahead = first + kPass + my_row;
    next_row = row_of(ahead < end ? ahead : begin);
    const T *k[kRows], *v[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int64_t at = int64_t{__shfl_sync(~0u, row, r, kLanes)} * p.head_dim;
      k[r] = static_cast<const T*>(p.k_blocks) + at;
      v[r] = static_cast<const T*>(p.v_blocks) + at;
    }
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
    const bool is_there = first + my_row < end;
    SumToLanes<kLanes / 2>(dots, lane);
    const float score = dots[0];
    float best = is_there ? score : -INFINITY;
#pragma unroll
    for (int other = 1; other < kRows; other *= 2) {
      best = fmaxf(best, __shfl_xor_sync(~0u, best, other));
    }
    best = fmaxf(best, top);
    if (__any_sync(~0u, best > top)) {
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
    const float weight = is_there ? exp2f(score - top) : 0.0f;
    denominator += weight;
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

#pragma unroll
  for (int other = 1; other < kRows; other *= 2) {
    denominator += __shfl_xor_sync(~0u, denominator, other);
  }
  if (my_row == 0) {
    highest[team][lane / kRows] = top;
    denominators[team][lane / kRows] = denominator;
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
  __syncthreads();

  T* const out = static_cast<T*>(p.out) + (sequence * p.q_heads + head0) * p.head_dim;
  const int64_t part0 = (sequence * p.q_heads + head0) * cut.splits;
  for (int at = threadIdx.x; at < num_heads * p.head_dim; at += kThreads) {
    const int h = at / p.head_dim;
    float best = -INFINITY, total = 0.0f, value = 0.0f;
    for (int t = 0; t < kTeams; ++t) best = fmaxf(best, highest[t][h]);
    for (int t = 0; t < kTeams; ++t) {
      const float factor = exp2f(highest[t][h] - best);
      total += denominators[t][h] * factor;
      value += sums[(t * kHeads + h) * p.head_dim + at % p.head_dim] * factor;
    }
    if (num_parts == 1) {
      out[at] = Store<T>(value / total);
      continue;
    }
    const int64_t part = part0 + h * cut.splits + blockIdx.x;
    partials.sums[part * p.head_dim + at % p.head_dim] = value;
    if (at % p.head_dim == 0) {
      partials.highest[part] = best;
      partials.denominators[part] = total;
    }
  }
  if (num_parts == 1) return;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    unsigned* arrived = &partials.arrived[sequence * gridDim.y + blockIdx.y];
    is_last = atomicAdd(arrived, 1u) + 1 == num_parts;
    if (is_last) *arrived = 0;  // for the next launch
  }
  __syncthreads();
  if (!is_last) return;
  __threadfence();
  // Each part's share of the result, by a warp per head.
  __shared__ float shares[kHeads][kMaxSplits];
  for (int h = threadIdx.x / 32; h < num_heads; h += kThreads / 32) {
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
  for (int at = threadIdx.x; at < num_heads * p.head_dim; at += kThreads) {
    const int h = at / p.head_dim;
    const float* part_sums =
        partials.sums + (part0 + int64_t{h} * cut.splits) * p.head_dim + at % p.head_dim;
    float value = 0.0f;
#pragma unroll 8
    for (int i = 0; i < num_parts; ++i) value += part_sums[int64_t{i} * p.head_dim] * shares[h][i];
    out[at] = Store<T>(value);
  }
}

template <typename T, int kLanes, int kHeads, bool kWhole>
void Launch(const PagedAttentionParams& p, const Cut& cut, const Partials& partials,
            CudaStream stream) {
  const dim3 grid(cut.splits, p.kv_heads * cut.groups, static_cast<unsigned>(p.batch));
  const size_t shared = sizeof(float) * (kThreads / kLanes) * kHeads * p.head_dim;
  PagedAttentionKernel<T, kLanes, kHeads, kWhole>
      <<<grid, kThreads, shared, stream>>>(p, cut, partials);
}

template <typename T, int kLanes>
void LaunchHeads(const PagedAttentionParams& p, const Cut& cut, const Partials& partials,
                 CudaStream stream) {
  switch (cut.heads) {
    case 1:
      return Launch<T, kLanes, 1, true>(p, cut, partials, stream);
    case 2:
      return Launch<T, kLanes, 2, true>(p, cut, partials, stream);
    case 4:
      return Launch<T, kLanes, 4, true>(p, cut, partials, stream);
    default:
      return Launch<T, kLanes, kMaxHeads, true>(p, cut, partials, stream);
  }
}

}  // namespace

int64_t PagedAttentionWorkspace(const PagedAttentionParams& p) {
  const int64_t parts = p.batch * p.q_heads * MakeCut(p).splits;
  return kMaxCounters * static_cast<int64_t>(sizeof(unsigned)) +
         parts * (p.head_dim + 2) * static_cast<int64_t>(sizeof(float));
}

void PagedAttentionCuda(const PagedAttentionParams& p, void* workspace, CudaStream stream) {
  if (p.batch == 0) return;
  const Cut cut = MakeCut(p);
  const int64_t parts = p.batch * p.q_heads * cut.splits;
  Partials partials{.arrived = static_cast<unsigned*>(workspace)};
  partials.highest = reinterpret_cast<float*>(partials.arrived + kMaxCounters);
  partials.denominators = partials.highest + parts;
  partials.sums = partials.denominators + parts;
  DispatchDType(p.dtype, [&]<typename T>() {
    if (!cut.whole) return Launch<T, 32, 1, false>(p, cut, partials, stream);
    if (cut.lanes == 8) return LaunchHeads<T, 8>(p, cut, partials, stream);
    if (cut.lanes == 16) return LaunchHeads<T, 16>(p, cut, partials, stream);
    return LaunchHeads<T, 32>(p, cut, partials, stream);
  });
}

}  // namespace winnow
