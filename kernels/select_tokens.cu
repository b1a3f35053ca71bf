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

// Exclusive prefix sum over the block; *total gets the sum. `scratch` holds 32 ints.
__device__ int BlockScan(int value, int* scratch, int* total) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const auto scan = [lane](int x) {
    for (int offset = 1; offset < 32; offset *= 2) {
      const int other = __shfl_up_sync(~0u, x, offset);
      if (lane >= offset) x += other;
    }
    return x;
  };
  const int sum = scan(value);
  if (lane == 31) scratch[warp] = sum;
  __syncthreads();
  if (warp == 0) scratch[lane] = scan(scratch[lane]);
  __syncthreads();
  const int before = warp == 0 ? 0 : scratch[warp - 1];
  *total = scratch[kThreads / 32 - 1];
  __syncthreads();
  return before + sum - value;
}

// One block per row. Four passes over the keys, from the highest byte down, find the key of the
// last position that is kept; a scan in order of position then writes all above it, the first of
// those equal to it, the protected ones and the window.
__global__ void SelectTokensKernel(SelectTokensParams p) {
  __shared__ int histogram[kDigits];
  __shared__ int scratch[32];
  __shared__ uint32_t shared_prefix;
  __shared__ int shared_wanted;
  const float* scores = p.scores + blockIdx.x * p.window_begin;
  int32_t* out = p.positions + blockIdx.x * p.num_kept;

  bool nan = false;
  for (int64_t j = threadIdx.x; j < p.window_begin; j += kThreads) nan |= isnan(scores[j]);
  if (nan) *p.nan = 1.0f;

  int64_t wanted = p.num_kept - (p.num_tokens - p.window_begin);
  for (int s = 0; s < p.num_spans; ++s) wanted -= p.spans[2 * s + 1] - p.spans[2 * s];
  const bool by_score = wanted > 0;
  uint32_t prefix = 0, mask = 0;
  for (int shift = 24; shift >= 0 && by_score; shift -= 8) {
    for (int i = threadIdx.x; i < kDigits; i += kThreads) histogram[i] = 0;
    __syncthreads();
    for (int64_t j = threadIdx.x; j < p.window_begin; j += kThreads) {
      const uint32_t key = ScoreKey(scores[j]);
      if ((key & mask) == prefix && !IsProtected(p, j)) {
        atomicAdd(&histogram[(key >> shift) & 0xFF], 1);
      }
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      int left = static_cast<int>(wanted), digit = kDigits - 1;
      while (digit > 0 && histogram[digit] < left) left -= histogram[digit--];
      shared_prefix = prefix | (static_cast<uint32_t>(digit) << shift);
      shared_wanted = left;
    }
    __syncthreads();
    prefix = shared_prefix;
    wanted = shared_wanted;
    mask |= 0xFFu << shift;
  }
  // Of the positions whose key is `prefix`, the lowest `wanted` are kept; all with a higher key.
  int written = 0, equal_before = 0;
  for (int64_t base = 0; base < p.num_tokens; base += kThreads) {
    const int64_t j = base + threadIdx.x;
    bool keep = false, equal = false;
    if (j < p.num_tokens) {
      if (j >= p.window_begin || IsProtected(p, j)) {
        keep = true;
      } else if (by_score) {
        const uint32_t key = ScoreKey(scores[j]);
        keep = key > prefix;
        equal = key == prefix;
      }
    }
    int equal_total, keep_total;
    const int equal_rank = equal_before + BlockScan(equal, scratch, &equal_total);
    keep |= equal && equal_rank < wanted;
    const int at = written + BlockScan(keep, scratch, &keep_total);
    if (keep && at < p.num_kept) out[at] = static_cast<int32_t>(j);
    written += keep_total;
    equal_before += equal_total;
  }
  // With NaN the count may be short: in range all the same.
  for (int64_t at = written + threadIdx.x; at < p.num_kept; at += kThreads) out[at] = 0;
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
