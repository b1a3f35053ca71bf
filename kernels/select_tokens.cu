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

__device__ bool IsProtected(const SelectTokensParams& p, int64_t position) {
  for (int s = 0; s < p.num_spans; ++s) {
    if (position >= p.spans[2 * s] && position < p.spans[2 * s + 1]) return true;
  }
  return false;
}

// Positions in order, 32 a word: which are kept, and which are if their rank among their equals is
// low enough. A thread counts a word.
constexpr int kSegment = kThreads * 32;
struct Marks {
  uint32_t kept[kThreads], equal[kThreads];
  uint64_t before[kThreads];  // counts of all that lie before the word
};
// Counts of kept positions in the low half, of equal ones in the high half.
constexpr uint64_t kEqual = uint64_t{1} << 32;

// One block per row. Four passes over the keys, from the highest byte down, find the key of the
// last position that is kept; a scan in order of position then writes all above it, the first of
// those equal to it, the protected ones and the window. kStaged: the keys fit into shared memory
// and are made once. Loops are short: a kernel that runs for microseconds must not wait for its own
// instructions.
template <bool kStaged>
__global__ void __launch_bounds__(kThreads) SelectTokensKernel(SelectTokensParams p) {
  extern __shared__ uint32_t staged[];  // [window_begin]
  __shared__ union {
    Histogram histogram;
    Marks marks;
  } shared;
  __shared__ uint64_t scratch[33];
  __shared__ uint32_t shared_digit;
  __shared__ int shared_rank;
  const float* scores = p.scores + blockIdx.x * p.window_begin;
  int32_t* out = p.positions + blockIdx.x * p.num_kept;
  bool nan = false;
  if (kStaged) {  // each thread reads what it has written, but for the end
#pragma unroll 4
    for (int j = threadIdx.x; j < p.window_begin; j += kThreads) {
      nan |= isnan(scores[j]);
      staged[j] = ScoreKey(scores[j]);
    }
  }
  const auto key_of = [&](int64_t j) {
    if (kStaged) return staged[j];
    nan |= isnan(scores[j]);
    return ScoreKey(scores[j]);
  };

  int64_t wanted = p.num_kept - (p.num_tokens - p.window_begin);
  for (int s = 0; s < p.num_spans; ++s) wanted -= p.spans[2 * s + 1] - p.spans[2 * s];
  const bool by_score = wanted > 0;
  uint32_t prefix = 0, mask = 0;
  for (int shift = 24; shift >= 0; shift -= 8) {
    shared.histogram.Clear();
    __syncthreads();
#pragma unroll 4
    for (int64_t j = threadIdx.x; j < p.window_begin; j += kThreads) {
      const uint32_t key = key_of(j);
      if ((key & mask) == prefix && !IsProtected(p, j)) {
        shared.histogram.Count((key >> shift) & 0xFF);
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

  // Of the positions whose key is `prefix`, the lowest `wanted` are kept; all with a higher key.
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  uint64_t before = 0;  // counts of all positions before the segment's
  for (int64_t segment = 0; segment < p.num_tokens; segment += kSegment) {
    const auto words = static_cast<int>(min((p.num_tokens - segment + 31) / 32, int64_t{kThreads}));
    shared.marks.kept[threadIdx.x] = shared.marks.equal[threadIdx.x] = 0;
    __syncthreads();
    for (int word = warp; word < words; word += kThreads / 32) {
      const int64_t j = segment + word * 32 + lane;
      const bool is_given = j < p.num_tokens && (j >= p.window_begin || IsProtected(p, j));
      const bool is_scored = by_score && j < p.window_begin && !is_given;
      const uint32_t key = is_scored ? key_of(j) : 0;
      const uint32_t kept = __ballot_sync(~0u, is_given || (is_scored && key > prefix));
      const uint32_t equal = __ballot_sync(~0u, is_scored && key == prefix);
      if (lane == 0) shared.marks.kept[word] = kept, shared.marks.equal[word] = equal;
    }
    __syncthreads();
    uint64_t total;
    const uint64_t counts =
        __popc(shared.marks.kept[threadIdx.x]) + __popc(shared.marks.equal[threadIdx.x]) * kEqual;
    shared.marks.before[threadIdx.x] = before + BlockScan(counts, scratch, &total);
    before += total;
    __syncthreads();
    for (int word = warp; word < words; word += kThreads / 32) {
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
  if (nan) *p.nan = 1.0f;  // every writer writes the same
  // With NaN the count may be short: in range all the same.
  const int64_t written =
      static_cast<int64_t>(before & 0xFFFFFFFF) + min(static_cast<int64_t>(before >> 32), wanted);
  for (int64_t slot = written + threadIdx.x; slot < p.num_kept; slot += kThreads) out[slot] = 0;
}

// Whether so much dynamic shared memory fits beside the kernel's own.
bool FitsShared(size_t bytes) {
  constexpr size_t kOwnBytes = 36 << 10;
  int device = 0, most = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  return bytes + kOwnBytes <= static_cast<size_t>(most);
}

}  // namespace

void MaxScoresCuda(const MaxScoresParams& p, CudaStream stream) {
  if (p.count == 0) return;
  MaxScoresKernel<<<NumBlocks(p.count, 256), 256, 0, stream>>>(p);
}

void SelectTokensCuda(const SelectTokensParams& p, CudaStream stream) {
  if (p.rows == 0) return;
  const auto bytes = static_cast<size_t>(p.window_begin) * sizeof(uint32_t);
  const bool staged = FitsShared(bytes);
  const auto kernel = staged ? SelectTokensKernel<true> : SelectTokensKernel<false>;
  const size_t shared = staged ? bytes : 0;
  WithShared(kernel, shared)<<<static_cast<unsigned>(p.rows), kThreads, shared, stream>>>(p);
}

}  // namespace winnow
