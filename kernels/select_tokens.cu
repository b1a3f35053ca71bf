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
  int sums[kDigits];

  __device__ void Clear() {
    for (int i = threadIdx.x; i < kDigits * 32; i += kThreads) counts[i] = 0;
  }
  __device__ void Count(uint32_t digit) { atomicAdd(&counts[digit * 32 + threadIdx.x % 32], 1); }
  // Sums up the copies of each digit. A warp takes eight digits.
  __device__ void Merge() {
    for (int digit = threadIdx.x / 32; digit < kDigits; digit += kThreads / 32) {
      const int sum = __reduce_add_sync(~0u, counts[digit * 32 + threadIdx.x % 32]);
      if (threadIdx.x % 32 == 0) sums[digit] = sum;
    }
  }
  // By the first warp: the digit in which the `wanted`-th from the top lies, and its rank there.
  __device__ void Find(int wanted, uint32_t* digit, int* rank) const {
    const int lane = threadIdx.x;
    const int top = kDigits - 1 - 8 * lane;  // the lane's digits: top … top − 7
    int own = 0;
    for (int i = 0; i < 8; ++i) own += sums[top - i];
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
    while (i < 7 && sums[top - i] < left) left -= sums[top - i++];
    *digit = static_cast<uint32_t>(top - i);
    *rank = left;
  }
};

// A thread's share of a segment of the positions: every kThreads-th, so that neighbours read
// neighbours. What is kept whatever its score, by its bit: the window and protected positions.
constexpr int kItems = 32;
constexpr int kSegment = kThreads * kItems;
struct Items {
  int first;  // position; item i is kThreads · i further
  uint32_t keys[kItems];
  uint32_t given, scored;  // by item: kept in any case, up for selection

  __device__ int Before(int64_t position) const {
    const int64_t distance = max(position - first + kThreads - 1, int64_t{0});
    return static_cast<int>(min(distance / kThreads, int64_t{kItems}));
  }
  // The items among positions [begin, end).
  __device__ uint32_t Bits(int64_t begin, int64_t end) const {
    const int low = Before(begin), high = Before(end);
    return low >= high ? 0 : (~0u >> (32 - (high - low))) << low;
  }
  // True if there is a NaN.
  __device__ bool Load(const SelectTokensParams& p, const float* scores, int64_t segment) {
    first = static_cast<int>(segment * kSegment + threadIdx.x);
    uint32_t guarded = 0;
    for (int s = 0; s < p.num_spans; ++s) guarded |= Bits(p.spans[2 * s], p.spans[2 * s + 1]);
    scored = Bits(0, p.window_begin) & ~guarded;
    given = Bits(p.window_begin, p.num_tokens) | guarded;
    const int with_score = Before(p.window_begin);
    bool nan = false;
#pragma unroll
    for (int i = 0; i < kItems; ++i) {
      const float score = i < with_score ? scores[first + i * kThreads] : 0.0f;
      nan |= isnan(score);
      keys[i] = ScoreKey(score);
    }
    return nan;
  }
};

// Kept positions in the low half, those equal to the last key that is kept in the high one.
constexpr uint64_t kEqual = uint64_t{1} << 32;

// A segment's positions in order, 32 a word: which are kept, and which are if their rank among
// their equals is low enough.
struct Marks {
  uint32_t kept[kSegment / 32], equal[kSegment / 32];
  uint64_t before[kSegment / 32];  // counts of all that lie before the word
};
static_assert(kSegment / 32 == kThreads);  // a thread counts a word

// One block per row. Four passes over the keys, from the highest byte down, find the key of the
// last position that is kept; a scan in order of position then writes all above it, the first of
// those equal to it, the protected ones and the window. Prompts of one segment are read once and
// stay in registers.
__global__ void __launch_bounds__(kThreads, 1) SelectTokensKernel(SelectTokensParams p) {
  __shared__ union {
    Histogram histogram;
    Marks marks;
  } shared;
  __shared__ uint64_t scratch[33];
  __shared__ uint32_t shared_digit;
  __shared__ int shared_rank;
  const float* scores = p.scores + blockIdx.x * p.window_begin;
  int32_t* out = p.positions + blockIdx.x * p.num_kept;
  const int64_t segments = (p.num_tokens + kSegment - 1) / kSegment;

  int64_t wanted = p.num_kept - (p.num_tokens - p.window_begin);
  for (int s = 0; s < p.num_spans; ++s) wanted -= p.spans[2 * s + 1] - p.spans[2 * s];
  const bool by_score = wanted > 0;
  uint32_t prefix = 0, mask = 0;
  Items items;
  bool nan = items.Load(p, scores, 0);
  for (int shift = 24; shift >= 0; shift -= 8) {
    shared.histogram.Clear();
    __syncthreads();
    for (int64_t segment = 0; segment < segments; ++segment) {
      if (segments > 1) nan |= items.Load(p, scores, segment);
#pragma unroll
      for (int i = 0; i < kItems; ++i) {
        if ((items.keys[i] & mask) == prefix && (items.scored >> i & 1) != 0) {
          shared.histogram.Count((items.keys[i] >> shift) & 0xFF);
        }
      }
    }
    __syncthreads();
    if (!by_score) break;
    shared.histogram.Merge();
    __syncthreads();
    if (threadIdx.x < 32) {
      shared.histogram.Find(static_cast<int>(wanted), &shared_digit, &shared_rank);
    }
    __syncthreads();
    prefix |= shared_digit << shift;
    wanted = shared_rank;
    mask |= 0xFFu << shift;
  }
  if (nan) *p.nan = 1.0f;  // every writer writes the same

  // Of the positions whose key is `prefix`, the lowest `wanted` are kept; all with a higher key.
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  uint64_t before = 0;  // counts of all positions before the segment's
  for (int64_t segment = 0; segment < segments; ++segment) {
    if (segments > 1) items.Load(p, scores, segment);
#pragma unroll
    for (int i = 0; i < kItems; ++i) {
      const bool scored = by_score && (items.scored >> i & 1) != 0;
      const bool given = (items.given >> i & 1) != 0;
      const uint32_t kept = __ballot_sync(~0u, given || (scored && items.keys[i] > prefix));
      const uint32_t equal = __ballot_sync(~0u, scored && items.keys[i] == prefix);
      if (lane == 0) {
        shared.marks.kept[i * (kThreads / 32) + warp] = kept;
        shared.marks.equal[i * (kThreads / 32) + warp] = equal;
      }
    }
    __syncthreads();
    uint64_t total;
    const uint64_t counts =
        __popc(shared.marks.kept[threadIdx.x]) + __popc(shared.marks.equal[threadIdx.x]) * kEqual;
    shared.marks.before[threadIdx.x] = before + BlockScan(counts, scratch, &total);
    before += total;
    __syncthreads();
    for (int word = warp; word < kSegment / 32; word += kThreads / 32) {
      const uint32_t kept = shared.marks.kept[word], equal = shared.marks.equal[word];
      const uint64_t at = shared.marks.before[word];
      const uint32_t lower = (1u << lane) - 1;
      const auto kept_before = static_cast<int64_t>(at & 0xFFFFFFFF) + __popc(kept & lower);
      const auto rank = static_cast<int64_t>(at >> 32) + __popc(equal & lower);
      const bool is_kept = (kept >> lane & 1) != 0 || ((equal >> lane & 1) != 0 && rank < wanted);
      const int64_t slot = kept_before + min(rank, wanted);
      if (is_kept && slot < p.num_kept) {
        out[slot] = static_cast<int32_t>(segment * kSegment + word * 32 + lane);
      }
    }
    __syncthreads();  // the marks may be used again
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
