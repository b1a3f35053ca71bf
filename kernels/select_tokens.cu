#include "kernels/cuda_types.cuh"
#include "kernels/select_tokens.h"

namespace winnow {
namespace {

constexpr int kThreads = 1024;
constexpr int kDigits = 256;  // radix: 8 bits a pass

__global__ void MaxScoresKernel(MaxScoresParams p) {
  const int64_t j = blockIdx.x * int64_t{256} + threadIdx.x;
  if (j >= p.count) return;
  float best = p.best[j];
  bool nan = false;
  for (int64_t r = 0; r < p.rows; ++r) {
    const float x = p.scores[r * p.count + j];
    nan |= isnan(x);
    best = fmaxf(best, x);
  }
  p.best[j] = best;
  if (nan) *p.nan = 1.0f;  // every writer writes the same
}

// Keys in the order of the scores; −0 and +0 are equal.
__device__ uint32_t ScoreKey(float x) {
  const uint32_t bits = __float_as_uint(x + 0.0f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

__device__ bool IsProtected(const SelectTokensParams& p, int64_t position) {
  for (int s = 0; s < p.num_spans; ++s) {
    if (position >= p.spans[2 * s] && position < p.spans[2 * s + 1]) return true;
  }
  return false;
}

// Exclusive prefix sum over the block; *total gets the sum. `scratch` holds 33 numbers.
__device__ uint64_t BlockScan(uint64_t value, uint64_t* scratch, uint64_t* total) {
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

  __device__ void Clear() {
    for (int i = threadIdx.x; i < kDigits * 32; i += kThreads) counts[i] = 0;
  }
  __device__ void Count(uint32_t digit) { atomicAdd(&counts[digit * 32 + threadIdx.x % 32], 1); }
  // Sums up the copies of each digit into the first. A warp takes eight digits.
  __device__ void Merge() {
    for (int digit = threadIdx.x / 32; digit < kDigits; digit += kThreads / 32) {
      const int sum = __reduce_add_sync(~0u, counts[digit * 32 + threadIdx.x % 32]);
      if (threadIdx.x % 32 == 0) counts[digit * 32] = sum;
    }
  }
  // By the first warp: the digit in which the `wanted`-th from the top lies, and its rank there.
  __device__ void Find(int wanted, uint32_t* digit, int* rank) const {
    const int lane = threadIdx.x;
    const int top = kDigits - 1 - 8 * lane;  // the lane's digits: top … top − 7
    int own = 0;
    for (int i = 0; i < 8; ++i) own += counts[(top - i) * 32];
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
    while (i < 7 && counts[(top - i) * 32] < left) left -= counts[(top - i++) * 32];
    *digit = static_cast<uint32_t>(top - i);
    *rank = left;
  }
};

// What a position is: not kept, kept whatever its rank, or kept if its rank among its equals is low
// enough. Counts of both kinds share a number.
constexpr uint64_t kKept = 1, kEqual = uint64_t{1} << 32;

// One block per row. Four passes over the keys, from the highest byte down, find the key of the
// last position that is kept; a scan in order of position then writes all above it, the first of
// those equal to it, the protected ones and the window.
__global__ void __launch_bounds__(kThreads) SelectTokensKernel(SelectTokensParams p) {
  __shared__ Histogram histogram;
  __shared__ uint64_t scratch[33];
  __shared__ uint32_t shared_digit;
  __shared__ int shared_rank;
  const float* scores = p.scores + blockIdx.x * p.window_begin;
  int32_t* out = p.positions + blockIdx.x * p.num_kept;

  int64_t wanted = p.num_kept - (p.num_tokens - p.window_begin);
  for (int s = 0; s < p.num_spans; ++s) wanted -= p.spans[2 * s + 1] - p.spans[2 * s];
  const bool by_score = wanted > 0;
  uint32_t prefix = 0, mask = 0;
  bool nan = false;
  for (int shift = 24; shift >= 0; shift -= 8) {
    histogram.Clear();
    __syncthreads();
#pragma unroll 8
    for (int64_t j = threadIdx.x; j < p.window_begin; j += kThreads) {
      const float score = scores[j];
      nan |= isnan(score);
      const uint32_t key = ScoreKey(score);
      if ((key & mask) == prefix && !IsProtected(p, j)) histogram.Count((key >> shift) & 0xFF);
    }
    __syncthreads();
    if (!by_score) break;
    histogram.Merge();
    __syncthreads();
    if (threadIdx.x < 32) histogram.Find(static_cast<int>(wanted), &shared_digit, &shared_rank);
    __syncthreads();
    prefix |= shared_digit << shift;
    wanted = shared_rank;
    mask |= 0xFFu << shift;
  }
  if (nan) *p.nan = 1.0f;  // every writer writes the same

  // Of the positions whose key is `prefix`, the lowest `wanted` are kept; all with a higher key.
  // Four neighbours a thread.
  constexpr int kItems = 4;
  uint64_t before = 0;  // counts of all positions before the block's
  for (int64_t base = 0; base < p.num_tokens; base += kThreads * kItems) {
    const int64_t first = base + threadIdx.x * kItems;
    uint64_t kinds[kItems], sum = 0;
    for (int i = 0; i < kItems; ++i) {
      const int64_t j = first + i;
      kinds[i] = 0;
      if (j >= p.num_tokens) continue;
      if (j >= p.window_begin || IsProtected(p, j)) {
        kinds[i] = kKept;
      } else if (by_score) {
        const uint32_t key = ScoreKey(scores[j]);
        kinds[i] = key > prefix ? kKept : key == prefix ? kEqual : 0;
      }
      sum += kinds[i];
    }
    uint64_t total;
    uint64_t at = before + BlockScan(sum, scratch, &total);
    for (int i = 0; i < kItems; ++i) {
      const auto kept = static_cast<int64_t>(at & 0xFFFFFFFF),
                 equal = static_cast<int64_t>(at >> 32);
      const int64_t slot = kept + min(equal, wanted);
      const bool keep = kinds[i] == kKept || (kinds[i] == kEqual && equal < wanted);
      if (keep && slot < p.num_kept) out[slot] = static_cast<int32_t>(first + i);
      at += kinds[i];
    }
    before += total;
  }
  // With NaN the count may be short: in range all the same.
  const int64_t written =
      static_cast<int64_t>(before & 0xFFFFFFFF) + min(static_cast<int64_t>(before >> 32), wanted);
  for (int64_t slot = written + threadIdx.x; slot < p.num_kept; slot += kThreads) out[slot] = 0;
}

}  // namespace

void MaxScoresCuda(const MaxScoresParams& p, CudaStream stream) {
  if (p.count == 0) return;
  MaxScoresKernel<<<NumBlocks(p.count, 256), 256, 0, stream>>>(p);
}

void SelectTokensCuda(const SelectTokensParams& p, CudaStream stream) {
  if (p.rows == 0) return;
  SelectTokensKernel<<<static_cast<unsigned>(p.rows), kThreads, 0, stream>>>(p);
}

}  // namespace winnow
