#pragma once

// The selection of one row of scores, by one block or by a cluster of them: behind
// kernels/select_tokens.cu and kernels/select_tokens_sm90.cu.

#include <cstdint>

#include "kernels/cuda_types.cuh"
#include "kernels/select_tokens.h"
#include "kernels/sm90_ptx.cuh"

namespace winnow {

constexpr int kSelectThreads = 1024;
constexpr int kDigits = 256;  // radix: 8 bits a pass

// Keys in the order of the scores; −0 and +0 are equal.
__device__ inline uint32_t ScoreKey(float x) {
  const uint32_t bits = __float_as_uint(x + 0.0f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// Exclusive prefix sum over the block; *total gets the sum. `scratch` holds 33 numbers.
__device__ inline uint64_t BlockScan(uint64_t value, uint64_t* scratch, uint64_t* total) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  uint64_t sum = value;
  for (int offset = 1; offset < 32; offset *= 2) {
    const uint64_t other = __shfl_up_sync(~0u, sum, offset);
    if (lane >= offset) sum += other;
  }
  if (lane == 31) scratch[warp] = sum;
  __syncthreads();
  if (warp == 0) {
    uint64_t before = scratch[lane];
    for (int offset = 1; offset < 32; offset *= 2) {
      const uint64_t other = __shfl_up_sync(~0u, before, offset);
      if (lane >= offset) before += other;
    }
    if (lane == 31) scratch[32] = before;
    scratch[lane] = before - scratch[lane];
  }
  __syncthreads();
  *total = scratch[32];
  const uint64_t result = scratch[warp] + sum - value;
  __syncthreads();  // scratch may be used again
  return result;
}

// Counts of the digits, one copy for each lane: scores share their exponents, and lanes that count
// the same digit would wait for each other.
struct Histogram {
  int counts[kDigits * 32];
  int sums[2][kDigits];  // of this block, by turns: others may still read the last pass's
  int totals[kDigits];   // of all blocks

  __device__ void Clear() {
    for (int i = threadIdx.x; i < kDigits * 32; i += kSelectThreads) counts[i] = 0;
  }
  __device__ void Count(uint32_t digit) { atomicAdd(&counts[digit * 32 + threadIdx.x % 32], 1); }
  // Sums up the copies of each digit, and those of the cluster's blocks. A warp takes eight digits.
  template <int kBlocks>
  __device__ void Merge(int turn) {
    int* own = kBlocks == 1 ? totals : sums[turn];
    for (int digit = threadIdx.x / 32; digit < kDigits; digit += kSelectThreads / 32) {
      const int sum = __reduce_add_sync(~0u, counts[digit * 32 + threadIdx.x % 32]);
      if (threadIdx.x % 32 == 0) own[digit] = sum;
    }
    if constexpr (kBlocks > 1) {
      sm90::ClusterSync();
      if (threadIdx.x >= kDigits) return;
      int total = 0;
      for (int block = 0; block < kBlocks; ++block) {
        total += sm90::LoadFromBlock(&own[threadIdx.x], block);
      }
      totals[threadIdx.x] = total;
    }
  }
  // By the first warp: the digit in which the `wanted`-th from the top lies, and its rank there.
  __device__ void Find(int wanted, uint32_t* digit, int* rank) const {
    const int lane = threadIdx.x;
    const int top = kDigits - 1 - 8 * lane;  // the lane's digits: top … top − 7
    int own = 0;
    for (int i = 0; i < 8; ++i) own += totals[top - i];
    int above = own;
    for (int offset = 1; offset < 32; offset *= 2) {
      const int other = __shfl_up_sync(~0u, above, offset);
      if (lane >= offset) above += other;
    }
    above -= own;
    // With NaN there may be fewer than wanted: then it is the last digit.
    const bool is_here = above < wanted && (wanted <= above + own || lane == 31);
    if (!is_here) return;
    int left = wanted - above, i = 0;
    while (i < 7 && totals[top - i] < left) left -= totals[top - i++];
    *digit = static_cast<uint32_t>(top - i);
    *rank = left;
  }
};

__device__ inline bool IsProtected(const SelectTokensParams& p, int64_t position) {
  for (int s = 0; s < p.num_spans; ++s) {
    if (position >= p.spans[2 * s] && position < p.spans[2 * s + 1]) return true;
  }
  return false;
}

// Positions that each of `blocks` blocks takes, whole words of them but for the end.
__host__ __device__ inline int64_t SelectShare(int64_t num_tokens, int blocks) {
  return (num_tokens + 32 * blocks - 1) / (32 * blocks) * 32;
}

// Positions in order, 32 a word: which are kept, and which are if their rank among their equals is
// low enough. A thread counts a word.
constexpr int kSegment = kSelectThreads * 32;
struct Marks {
  uint32_t kept[kSelectThreads], equal[kSelectThreads];
  uint64_t before[kSelectThreads];  // counts of all that lie before the word
};
// Counts of kept positions in the low half, of equal ones in the high half.
constexpr uint64_t kEqual = uint64_t{1} << 32;

struct SelectShared {
  union {
    Histogram histogram;
    Marks marks;
  };
  uint64_t scratch[33];
  uint32_t digit;  // that Histogram::Find found, and the rank there
  int rank;
  int own_kept, own_equal;  // counts of this block's share
};

// A row by kBlocks blocks, the cluster of this one, each with a share of the positions. Four passes
// over the keys, from the highest byte down, find the key of the last position that is kept; a scan
// in order of position then writes all above it, the first of those equal to it, the protected ones
// and the window. kStaged: the share's keys fit into shared memory and are made once. Loops are
// short: a kernel that runs for microseconds must not wait for its own instructions.
template <bool kStaged, int kBlocks>
struct RowSelection {
  const SelectTokensParams& p;
  SelectShared& shared;
  uint32_t* const staged;  // [the share's scores]
  const int64_t row = blockIdx.x / kBlocks;
  const int block = static_cast<int>(blockIdx.x % kBlocks);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const float* const scores = p.scores + row * p.window_begin;
  int32_t* const out = p.positions + row * p.num_kept;
  // The share: positions first … last − 1, of which those before scored_last have a score.
  const int64_t share = SelectShare(p.num_tokens, kBlocks);
  const int64_t first = min(block * share, p.num_tokens);
  const int64_t last = min(first + share, p.num_tokens);
  const int64_t scored_last = min(last, p.window_begin);
  bool nan = false;
  // Of the positions whose key is `prefix`, the lowest `wanted` are kept; all with a higher key.
  int64_t wanted = 0;
  bool by_score = false;  // whether any is kept for its score
  uint32_t prefix = 0;

  // Each thread reads what it has written, but for the end.
  __device__ __forceinline__ void Stage() {
#pragma unroll 4
    for (int64_t j = first + threadIdx.x; j < scored_last; j += kSelectThreads) {
      nan |= isnan(scores[j]);
      staged[j - first] = ScoreKey(scores[j]);
    }
  }

  __device__ __forceinline__ uint32_t Key(int64_t j) {
    if (kStaged) return staged[j - first];
    nan |= isnan(scores[j]);
    return ScoreKey(scores[j]);
  }

  // Finds `prefix` and `wanted`.
  __device__ __forceinline__ void FindLastKept() {
    wanted = p.num_kept - (p.num_tokens - p.window_begin);
    for (int s = 0; s < p.num_spans; ++s) wanted -= p.spans[2 * s + 1] - p.spans[2 * s];
    by_score = wanted > 0;
    uint32_t mask = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
      shared.histogram.Clear();
      __syncthreads();
#pragma unroll 4
      for (int64_t j = first + threadIdx.x; j < scored_last; j += kSelectThreads) {
        const uint32_t key = Key(j);
        if ((key & mask) == prefix && !IsProtected(p, j)) {
          shared.histogram.Count((key >> shift) & 0xFF);
        }
      }
      __syncthreads();
      if (!by_score) break;
      shared.histogram.template Merge<kBlocks>(shift / 8 % 2);
      __syncthreads();
      if (threadIdx.x < 32) {
        shared.histogram.Find(static_cast<int>(wanted), &shared.digit, &shared.rank);
      }
      __syncthreads();
      prefix |= shared.digit << shift;
      wanted = shared.rank;
      mask |= 0xFFu << shift;
    }
  }

  // Of the 32 positions from `at` on, one a lane.
  __device__ __forceinline__ void Mark(int64_t at, uint32_t* kept, uint32_t* equal) {
    const int64_t j = at + lane;
    const bool is_given = j < last && (j >= p.window_begin || IsProtected(p, j));
    const bool is_scored = by_score && j < scored_last && !is_given;
    const uint32_t key = is_scored ? Key(j) : 0;
    *kept = __ballot_sync(~0u, is_given || (is_scored && key > prefix));
    *equal = __ballot_sync(~0u, is_scored && key == prefix);
  }

  // Counts of the shares of the cluster's blocks before this one.
  __device__ __forceinline__ uint64_t CountBefore() {
    if (threadIdx.x == 0) shared.own_kept = shared.own_equal = 0;
    __syncthreads();
    for (int64_t at = first + warp * 32; at < last; at += kSelectThreads) {
      uint32_t kept, equal;
      Mark(at, &kept, &equal);
      if (lane == 0) {
        atomicAdd(&shared.own_kept, __popc(kept)), atomicAdd(&shared.own_equal, __popc(equal));
      }
    }
    sm90::ClusterSync();
    uint64_t before = 0;
    for (int other = 0; other < block; ++other) {
      before += sm90::LoadFromBlock(&shared.own_kept, other) +
                sm90::LoadFromBlock(&shared.own_equal, other) * kEqual;
    }
    sm90::ClusterSync();  // a block that ends takes its shared memory along
    return before;
  }

  // Marks the `words` words of a segment.
  __device__ __forceinline__ void MarkSegment(int64_t segment, int words) {
    Marks& marks = shared.marks;
    marks.kept[threadIdx.x] = marks.equal[threadIdx.x] = 0;
    __syncthreads();
    for (int word = warp; word < words; word += kSelectThreads / 32) {
      uint32_t kept, equal;
      Mark(segment + word * 32, &kept, &equal);
      if (lane == 0) marks.kept[word] = kept, marks.equal[word] = equal;
    }
    __syncthreads();
  }

  __device__ __forceinline__ void WriteSegment(int64_t segment, int words) const {
    for (int word = warp; word < words; word += kSelectThreads / 32) {
      const uint32_t kept = shared.marks.kept[word], equal = shared.marks.equal[word];
      const uint64_t at = shared.marks.before[word];
      const uint32_t lower = (1u << lane) - 1;
      const auto rank = static_cast<int64_t>(at >> 32) + __popc(equal & lower);
      const bool is_kept = (kept >> lane & 1) != 0 || ((equal >> lane & 1) != 0 && rank < wanted);
      const int64_t slot =
          static_cast<int64_t>(at & 0xFFFFFFFF) + __popc(kept & lower) + min(rank, wanted);
      if (is_kept && slot < p.num_kept) {
        out[slot] = static_cast<int32_t>(segment + word * 32 + lane);
      }
    }
    __syncthreads();  // the marks may be used again
  }

  // Writes the share's kept positions behind those counted in `before`; returns the counts of both.
  __device__ __forceinline__ uint64_t WriteShare(uint64_t before) {
    for (int64_t segment = first; segment < last; segment += kSegment) {
      const auto words = static_cast<int>(min((last - segment + 31) / 32, int64_t{kSelectThreads}));
      MarkSegment(segment, words);
      uint64_t total;
      const uint64_t counts =
          __popc(shared.marks.kept[threadIdx.x]) + __popc(shared.marks.equal[threadIdx.x]) * kEqual;
      shared.marks.before[threadIdx.x] = before + BlockScan(counts, shared.scratch, &total);
      before += total;
      __syncthreads();
      WriteSegment(segment, words);
    }
    return before;
  }

  // With NaN the count may be short: in range all the same.
  __device__ __forceinline__ void FillUp(uint64_t counts) const {
    const int64_t written =
        static_cast<int64_t>(counts & 0xFFFFFFFF) + min(static_cast<int64_t>(counts >> 32), wanted);
    for (int64_t slot = written + threadIdx.x; slot < p.num_kept; slot += kSelectThreads) {
      out[slot] = 0;
    }
  }
};

template <bool kStaged, int kBlocks>
__device__ void SelectRow(const SelectTokensParams& p) {
  extern __shared__ uint32_t staged[];
  __shared__ SelectShared shared;
  RowSelection<kStaged, kBlocks> selection{p, shared, staged};
  if (kStaged) selection.Stage();
  selection.FindLastKept();
  uint64_t before = 0;
  if constexpr (kBlocks > 1) {
    sm90::ClusterSync();  // nobody reads the sums any more: marks follow
    before = selection.CountBefore();
  }
  const uint64_t counts = selection.WriteShare(before);
  if (selection.nan) *p.nan = 1.0f;  // every writer writes the same
  if (selection.block == kBlocks - 1) selection.FillUp(counts);
}

// The kernel's shared memory beside the staged keys, at most.
constexpr size_t kSelectOwnBytes = 40 << 10;

// Rows by clusters of so many blocks. REQUIRES: p.rows > 0, a GPU of compute capability 9.
constexpr int kSelectClusterBlocks = 8;
void SelectTokensSm90(const SelectTokensParams& p, CudaStream stream);

}  // namespace winnow
