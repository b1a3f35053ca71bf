#include "kernels/window_scores_cuda.cuh"

// The products of both passes by mma.sync.m16n8k16: 16 keys by 8 queries. A block takes 128 keys of
// one KV head and all queries that read them, the windows of the group's heads one after the other,
// each padded to a multiple of 8, so that a tile of 8 queries belongs to one head. Four warps, 32
// keys each, whose fragments stay in registers. Time is that of reading K.
//
// Fragments of a lane, with r = lane / 4 and c = 2·(lane mod 4): products (key r, queries c, c + 1)
// and (key r + 8, the same queries).

namespace winnow {
namespace {

constexpr int kWarps = 4;
constexpr int kWarpKeys = kScoreKeys / kWarps;  // two tiles of 16
constexpr int kPad = 8;           // elements after each row: eight rows then lie in different banks
constexpr int kMaxQueries = 128;  // per KV head, padded

__host__ __device__ constexpr int PaddedWindow(int window) { return (window + 7) / 8 * 8; }

__device__ uint32_t SharedAddress(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}
__device__ void CopyAsync16(void* to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(SharedAddress(to)), "l"(from));
}
__device__ void LoadMatrix4(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(SharedAddress(row)));
}
__device__ void LoadMatrix2(uint32_t (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(SharedAddress(row)));
}
__device__ void Multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// A block's keys and queries, and the products of a warp's 32 keys with one tile of 8 queries.
template <int kDim>
struct Tile {
  static constexpr int kRow = kDim + kPad;
  static constexpr int kSteps = kDim / 16;

  // keys [128][kRow], then queries [padded queries][kRow]
  __nv_bfloat16* keys;
  __nv_bfloat16* queries;
  uint32_t fragments[2][kSteps][4];  // of the warp's keys

  __device__ Tile(const WindowScoresParams& p, unsigned char* shared) {
    keys = reinterpret_cast<__nv_bfloat16*>(shared);
    queries = keys + kScoreKeys * kRow;
    const int group = p.q_heads / p.kv_heads, padded = PaddedWindow(p.window);
    constexpr int kUnits = kDim / 8;  // of 16 bytes in a row
    const auto* k =
        static_cast<const __nv_bfloat16*>(p.k) + int64_t{blockIdx.y} * p.capacity * kDim;
    const int64_t first = blockIdx.x * int64_t{kScoreKeys};
    const int64_t last = p.window_begin + p.window - 1;
    for (int i = threadIdx.x; i < kScoreKeys * kUnits; i += blockDim.x) {
      const int64_t key = min(first + i / kUnits, last);  // those beyond are masked
      CopyAsync16(keys + i / kUnits * kRow + i % kUnits * 8, k + key * kDim + i % kUnits * 8);
    }
    const auto* q =
        static_cast<const __nv_bfloat16*>(p.q) + int64_t{blockIdx.y} * group * p.window * kDim;
    for (int i = threadIdx.x; i < group * padded * kUnits; i += blockDim.x) {
      const int row = i / kUnits, head = row / padded;
      const int query = min(row % padded, p.window - 1);  // those beyond are masked
      CopyAsync16(queries + row * kRow + i % kUnits * 8,
                  q + (int64_t{head} * p.window + query) * kDim + i % kUnits * 8);
    }
    asm volatile("cp.async.wait_all;");
    __syncthreads();
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
    for (int tile = 0; tile < 2; ++tile) {
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        LoadMatrix4(
            fragments[tile][step],
            keys + (warp * kWarpKeys + tile * 16 + lane % 16) * kRow + step * 16 + lane / 16 * 8);
      }
    }
  }

  // scaled[tile][0..3] as the lane's fragments lie.
  __device__ void Products(int query_tile, float scale, float (&scaled)[2][4]) const {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int tile = 0; tile < 2; ++tile) {
#pragma unroll
      for (float& x : scaled[tile]) x = 0.0f;
    }
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      uint32_t b[2];
      LoadMatrix2(b, queries + (query_tile * 8 + lane % 8) * kRow + step * 16 + lane / 8 % 2 * 8);
      Multiply(scaled[0], fragments[0][step], b);
      Multiply(scaled[1], fragments[1][step], b);
    }
#pragma unroll
    for (int tile = 0; tile < 2; ++tile) {
#pragma unroll
      for (float& x : scaled[tile]) x *= scale;
    }
  }
};

// Key of the lane's fragment element, and its query within the tile.
__device__ int64_t KeyOf(int tile, int element) {
  return blockIdx.x * int64_t{kScoreKeys} + threadIdx.x / 32 * kWarpKeys + tile * 16 +
         element / 2 * 8 + threadIdx.x % 32 / 4;
}
__device__ int QueryOf(int element) { return threadIdx.x % 4 * 2 + element % 2; }

template <int kDim>
__global__ void __launch_bounds__(kWarps * 32)
    DenominatorMmaKernel(WindowScoresParams p, ScorePart* parts) {
  extern __shared__ __align__(16) unsigned char shared[];
  __shared__ ScorePart merged[kWarps][kMaxQueries];
  const Tile<kDim> tile(p, shared);
  const int group = p.q_heads / p.kv_heads, padded = PaddedWindow(p.window);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const float scale = 1.0f / sqrtf(static_cast<float>(kDim));
  for (int t = 0; t < group * padded / 8; ++t) {
    float s[2][4];
    tile.Products(t, scale, s);
#pragma unroll
    for (int column = 0; column < 2; ++column) {  // the lane's two queries
      const int query = t * 8 % padded + QueryOf(column);
      ScorePart part{-INFINITY, 0.0f};
      bool seen[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {  // its four keys
        seen[i] = KeyOf(i / 2, i % 2 * 2) <= p.window_begin + query;
        if (seen[i]) part.max = fmaxf(part.max, s[i / 2][i % 2 * 2 + column]);
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float x = s[i / 2][i % 2 * 2 + column];
        // A NaN, whose maximum is not one, makes the sum one.
        if (seen[i]) part.sum += part.max == -INFINITY ? x - x : expf(x - part.max);
      }
#pragma unroll
      for (int offset = 4; offset < 32; offset *= 2) {
        part = Merge(
            part, {__shfl_xor_sync(~0u, part.max, offset), __shfl_xor_sync(~0u, part.sum, offset)});
      }
      if (lane < 4) merged[warp][t * 8 + QueryOf(column)] = part;
    }
  }
  __syncthreads();
  for (int i = threadIdx.x; i < group * p.window; i += blockDim.x) {
    const int head = i / p.window, query = i % p.window;
    ScorePart part = merged[0][head * padded + query];
    for (int w = 1; w < kWarps; ++w) part = Merge(part, merged[w][head * padded + query]);
    parts[((int64_t{blockIdx.y} * group + head) * gridDim.x + blockIdx.x) * p.window + query] =
        part;
  }
}

template <int kDim>
__global__ void __launch_bounds__(kWarps * 32) WeightMmaKernel(WindowScoresParams p, float* sums) {
  extern __shared__ __align__(16) unsigned char shared[];
  __shared__ float denominators[kMaxQueries];
  const int group = p.q_heads / p.kv_heads, padded = PaddedWindow(p.window);
  for (int i = threadIdx.x; i < group * padded; i += blockDim.x) {
    const int head = blockIdx.y * group + i / padded, query = i % padded;
    // exp(s − ∞) = 0: queries that only pad give nothing.
    denominators[i] = query < p.window ? p.lse[head * p.lse_stride + query] : INFINITY;
  }
  const Tile<kDim> tile(p, shared);  // its barrier covers the denominators too
  const float scale = 1.0f / sqrtf(static_cast<float>(kDim));
  for (int head = 0; head < group; ++head) {
    float sum[4] = {};  // of the lane's four keys
    for (int t = head * padded / 8; t < (head + 1) * padded / 8; ++t) {
      float s[2][4];
      tile.Products(t, scale, s);
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        sum[i / 2] += expf(s[i / 4][i % 4] - denominators[t * 8 + QueryOf(i)]);
      }
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      sum[i] += __shfl_xor_sync(~0u, sum[i], 1);
      sum[i] += __shfl_xor_sync(~0u, sum[i], 2);
      const int64_t key = KeyOf(i / 2, i % 2 * 2);
      if (threadIdx.x % 4 == 0 && key < p.window_begin) {
        sums[(int64_t{blockIdx.y} * group + head) * p.window_begin + key] = sum[i];
      }
    }
  }
}

int NumQueries(const WindowScoresParams& p) {
  return p.q_heads / p.kv_heads * PaddedWindow(p.window);
}

// Calls f.template operator()<kDim>(shared memory in bytes).
template <typename F>
void DispatchDim(const WindowScoresParams& p, F&& f) {
  const size_t rows = kScoreKeys + NumQueries(p);
  p.head_dim == 64 ? f.template operator()<64>(rows * Tile<64>::kRow * sizeof(__nv_bfloat16))
                   : f.template operator()<128>(rows * Tile<128>::kRow * sizeof(__nv_bfloat16));
}

}  // namespace

bool HasWindowScoresMma(const WindowScoresParams& p) {
  return p.dtype == DType::kBf16 && (p.head_dim == 64 || p.head_dim == 128) &&
         NumQueries(p) <= kMaxQueries && IsAligned16(p.q) && IsAligned16(p.k);
}

void DenominatorPartsMma(const WindowScoresParams& p, ScorePart* parts, CudaStream stream) {
  const dim3 grid(NumBlocks(p.window_begin + p.window, kScoreKeys), p.kv_heads);
  DispatchDim(p, [&]<int kDim>(size_t shared) {
    WithShared(DenominatorMmaKernel<kDim>, shared)<<<grid, kWarps * 32, shared, stream>>>(p, parts);
  });
}

void WeightSumsMma(const WindowScoresParams& p, float* sums, CudaStream stream) {
  const dim3 grid(NumBlocks(p.window_begin, kScoreKeys), p.kv_heads);
  DispatchDim(p, [&]<int kDim>(size_t shared) {
    WithShared(WeightMmaKernel<kDim>, shared)<<<grid, kWarps * 32, shared, stream>>>(p, sums);
  });
}

}  // namespace winnow
