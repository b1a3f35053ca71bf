// Checks the attention kernels of tests/kernels/attention_kernels.h on the device against attention
// in double over one list of cases; exits 1 if one fails, 2 without a GPU that runs one of those
// asked for. Needs only the CUDA runtime.
//   attention_cuda_check [prefix of the kernels' names, all [seed [most FLOP of a case]]]
// Inputs are fresh random numbers every run (the seed is printed). Cases that a kernel does not
// support are left out of its count. Slots that no row may see hold NaN, and so do outputs before
// every run and the elements after them. Kernels of one architecture must agree bit for bit.

#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "tests/kernels/attention_cases.h"
#include "tests/kernels/attention_kernels.h"

namespace winnow {
namespace {

void Require(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}
#define REQUIRE_CUDA(call) Require(call, #call)

// Device memory; every byte 0xFF at first, which is NaN in bf16 and fp32.
template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(int64_t size) : size_(size) {
    REQUIRE_CUDA(cudaMalloc(&data_, bytes()));
    REQUIRE_CUDA(cudaMemset(data_, 0xFF, bytes()));
  }
  explicit DeviceArray(const std::vector<T>& host) : DeviceArray(host.size()) {
    REQUIRE_CUDA(cudaMemcpy(data_, host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice));
  }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  T* get() const { return data_; }
  std::vector<T> ToHost() const {
    std::vector<T> host(size_);
    REQUIRE_CUDA(cudaMemcpy(host.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost));
    return host;
  }

 private:
  size_t bytes() const { return (size_ > 0 ? size_ : 1) * sizeof(T); }
  T* data_ = nullptr;
  int64_t size_;
};

__device__ double Load(const void* base, int64_t i) {
  return __uint_as_float(uint32_t{static_cast<const uint16_t*>(base)[i]} << 16);
}

// Triangular on (−2, 2): x[b][r][c] of b < blocks, r < filled rows of `rows`, c < filled columns of
// `columns`.
__global__ void FillRandom(uint16_t* x, int64_t blocks, int64_t rows, int64_t filled_rows,
                           int64_t columns, int64_t filled_columns, uint64_t seed) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; i < blocks * rows * columns;
       i += step) {
    if (i / columns % rows >= filled_rows || i % columns >= filled_columns) continue;
    uint64_t z = seed + (i + 1) * 0x9E3779B97F4A7C15;  // splitmix64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    z ^= z >> 31;
    const float a = static_cast<uint32_t>(z) * 0x1p-31f, b = (z >> 32) * 0x1p-31f;
    x[i] = static_cast<uint16_t>(__float_as_uint(a + b - 2.0f) >> 16);
  }
}

__device__ double BlockSum(double x) {
  __shared__ double part[128];
  __syncthreads();
  part[threadIdx.x] = x;
  for (int n = 64; n > 0; n /= 2) {
    __syncthreads();
    if (threadIdx.x < n) part[threadIdx.x] += part[threadIdx.x + n];
  }
  __syncthreads();
  return part[0];
}

__device__ double BlockMax(double x) {
  __shared__ double part[128];
  __syncthreads();
  part[threadIdx.x] = x;
  for (int n = 64; n > 0; n /= 2) {
    __syncthreads();
    if (threadIdx.x < n) part[threadIdx.x] = fmax(part[threadIdx.x], part[threadIdx.x + n]);
  }
  __syncthreads();
  return part[0];
}

__device__ double SumTolerance(double terms, double magnitude) {  // tests/kernels/tolerance.h
  return fmin(terms, 4 * sqrt(terms)) * 0x1p-24 * magnitude;
}

struct Expected {
  double* out;        // [rows][q_heads][head_dim]
  double* tolerance;  // of out, its store included
  double* lse;        // [rows][q_heads]
  double* lse_tolerance;
};

// One block of 128 threads per (row, head); `weights` has room for the keys of every block of the
// grid. The error bound is that of tests/kernels/attention_oracle.h with weights in bf16.
__global__ void AttendInDouble(AttentionParams p, double* weights, int64_t room,
                               Expected expected) {
  double* w = weights + blockIdx.x * room;
  const int d = p.head_dim, group = p.q_heads / p.kv_heads;
  const double root = sqrt(static_cast<double>(d)), u = 0x1p-24;
  for (int64_t item = blockIdx.x; item < p.rows * p.q_heads; item += gridDim.x) {
    const int64_t row = item / p.q_heads, head = item % p.q_heads;
    const int64_t visible = p.first_visible + (p.positions != nullptr ? p.positions[row] : row);
    const int64_t q0 = row * p.q_stride + head * d, kv0 = head / group * p.capacity * d;
    double highest = -INFINITY, largest = 0, score_error = 0;
    for (int64_t j = threadIdx.x; j < visible; j += 128) {
      double dot = 0, magnitude = 0;
      for (int c = 0; c < d; ++c) {
        const double term = Load(p.q, q0 + c) * Load(p.k, kv0 + j * d + c);
        dot += term;
        magnitude += fabs(term);
      }
      w[j] = dot / root;
      highest = fmax(highest, w[j]);
      largest = fmax(largest, fabs(w[j]));
      score_error = fmax(score_error, SumTolerance(d, magnitude) / root);
    }
    highest = BlockMax(highest);
    score_error = BlockMax(score_error) + 4 * u * BlockMax(largest);
    double sum = 0;
    for (int64_t j = threadIdx.x; j < visible; j += 128) sum += (w[j] = exp(w[j] - highest));
    sum = BlockSum(sum);
    const double relative = 2 * (expm1(score_error) + 3e-6) + SumTolerance(visible, 1.0) + 4 * u;
    for (int c = threadIdx.x; c < d; c += 128) {
      double out = 0, magnitude = 0;
      for (int64_t j = 0; j < visible; ++j) {
        const double value = w[j] * Load(p.v, kv0 + j * d + c);
        out += value;
        magnitude += fabs(value);
      }
      out /= sum;
      magnitude /= sum;
      expected.out[item * d + c] = out;
      expected.tolerance[item * d + c] =
          (relative + 0x1p-8) * magnitude + SumTolerance(visible, magnitude) + 0x1p-8 * fabs(out);
    }
    if (threadIdx.x == 0) {
      expected.lse[item] = highest + log(sum);
      expected.lse_tolerance[item] = relative + 4 * u * (fabs(expected.lse[item]) + 1);
    }
    __syncthreads();
  }
}

struct Result {
  double worst = 0;     // |error| / tolerance
  double relative = 0;  // ‖out − expected‖ / ‖expected‖
  double worst_lse = 0;
  std::vector<uint16_t> out;
  bool ok() const { return worst <= 1 && worst_lse <= 1; }
};

// NaN counts as infinitely wrong.
void Worsen(double& worst, double error, double tolerance) {
  const double share = std::abs(error) / tolerance;
  worst = share == share ? std::max(worst, share) : INFINITY;
}

// A case's inputs on the device and what must come out.
class Problem {
 public:
  Problem(const AttentionCase& c, uint64_t seed);
  const AttentionParams& params() const { return p_; }
  Result Run(const AttentionKernel& kernel) const;

 private:
  void Expect();

  const AttentionCase c_;
  const int64_t outs_ = c_.rows * c_.q_heads * c_.head_dim;
  const int64_t lse_rows_ = c_.lse_begin < 0 ? 0 : c_.rows - c_.lse_begin;
  DeviceArray<uint16_t> q_{c_.rows * c_.q_stride()};
  DeviceArray<uint16_t> k_{c_.kv_heads * c_.capacity() * c_.head_dim};
  DeviceArray<uint16_t> v_{c_.kv_heads * c_.capacity() * c_.head_dim};
  DeviceArray<int32_t> positions_{c_.positions};
  AttentionParams p_;  // without outputs
  std::vector<double> out_, tolerance_, lse_, lse_tolerance_;
};

Problem::Problem(const AttentionCase& c, uint64_t seed) : c_(c) {
  FillRandom<<<512, 256>>>(q_.get(), 1, c.rows, c.rows, c.q_stride(), c.q_stride() - c.q_gap, seed);
  FillRandom<<<512, 256>>>(k_.get(), c.kv_heads, c.capacity(), c.keys(), c.head_dim, c.head_dim,
                           seed + 1);
  FillRandom<<<512, 256>>>(v_.get(), c.kv_heads, c.capacity(), c.keys(), c.head_dim, c.head_dim,
                           seed + 2);
  p_.q = q_.get();
  p_.k = k_.get();
  p_.v = v_.get();
  p_.positions = c.positions.empty() ? nullptr : positions_.get();
  p_.dtype = DType::kBf16;
  p_.rows = c.rows;
  p_.q_stride = c.q_stride();
  p_.capacity = c.capacity();
  p_.first_visible = c.first_visible;
  p_.q_heads = c.q_heads;
  p_.kv_heads = c.kv_heads;
  p_.head_dim = c.head_dim;
  p_.lse_begin = c.lse_begin < 0 ? 0 : c.lse_begin;
  Expect();
}

void Problem::Expect() {
  constexpr int kBlocks = 132 * 12;
  const int64_t items = c_.rows * c_.q_heads;
  DeviceArray<double> weights(kBlocks * c_.keys()), out(outs_), tolerance(outs_), lse(items),
      lse_tolerance(items);
  AttendInDouble<<<kBlocks, 128>>>(p_, weights.get(), c_.keys(),
                                   {out.get(), tolerance.get(), lse.get(), lse_tolerance.get()});
  REQUIRE_CUDA(cudaGetLastError());
  out_ = out.ToHost();
  tolerance_ = tolerance.ToHost();
  lse_ = lse.ToHost();
  lse_tolerance_ = lse_tolerance.ToHost();
}

Result Problem::Run(const AttentionKernel& kernel) const {
  constexpr int64_t kGuard = 64;
  DeviceArray<uint16_t> out(outs_ + kGuard);
  DeviceArray<float> lse(c_.q_heads * lse_rows_ + kGuard);
  AttentionParams p = p_;
  p.out = out.get();
  p.lse = c_.lse_begin < 0 ? nullptr : lse.get();
  kernel.run(p, nullptr);
  REQUIRE_CUDA(cudaGetLastError());
  REQUIRE_CUDA(cudaDeviceSynchronize());
  Result result;
  result.out = out.ToHost();
  const auto got_lse = lse.ToHost();
  double error2 = 0, norm2 = 0;
  for (int64_t i = 0; i < outs_; ++i) {
    const double error = ToFloat(Bf16{result.out[i]}) - out_[i];
    Worsen(result.worst, error, tolerance_[i]);
    error2 += error * error;
    norm2 += out_[i] * out_[i];
  }
  result.relative = std::sqrt(error2 / norm2);
  for (int64_t h = 0; h < c_.q_heads; ++h) {
    for (int64_t i = 0; i < lse_rows_; ++i) {
      const int64_t item = (c_.lse_begin + i) * c_.q_heads + h;
      Worsen(result.worst_lse, got_lse[h * lse_rows_ + i] - lse_[item], lse_tolerance_[item]);
    }
  }
  for (int64_t i = 0; i < kGuard; ++i) {
    if (result.out[outs_ + i] != 0xFFFF) result.worst = INFINITY;
    if (!std::isnan(got_lse[c_.q_heads * lse_rows_ + i])) result.worst_lse = INFINITY;
  }
  return result;
}

// `count` sorted positions of [0, tokens), the last one kept.
std::vector<int32_t> RandomPositions(int64_t count, int64_t tokens, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<int32_t> positions(count);
  for (int32_t& x : positions) x = static_cast<int32_t>(random() % tokens);
  std::sort(positions.begin(), positions.end());
  positions.back() = static_cast<int32_t>(tokens - 1);
  return positions;
}

std::vector<AttentionCase> Cases(uint64_t seed) {
  std::vector<AttentionCase> cases = AttentionTestCases();
  // Edges of row tiles (64 or 128 rows of packed heads: 16 or 32 tokens at 4 heads each; 192 at
  // head_dim 64 of sm90) and of key tiles (64 and 128).
  for (const int d : {64, 96, 128}) {
    for (const int64_t rows :
         {1, 2, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65, 127, 128, 129, 191, 192, 193}) {
      cases.push_back({rows, 8, 2, d, 1, {}, 0, 8, 3});
      cases.push_back({rows, 2, 2, d, 1, {}, rows / 2, 0, 200});
    }
    for (const int64_t keys : {1, 63, 64, 65, 127, 128, 129, 255, 256, 257, 1000}) {
      cases.push_back({5, 16, 1, d, keys, {}, 0, 0, 130});
      cases.push_back({70, 6, 2, d, keys, {}, 69, 64, 1});
    }
    cases.push_back({300, 14, 2, d, 77, {}, 0, 0, 5});  // 7 heads per kv head
    cases.push_back({129, 32, 1, d, 1, {}, 0, 0, 0});   // more heads than a tile packs
    cases.push_back({1024, 32, 8, d, 3073, {}, 1016});  // a chunk of a prompt
    cases.push_back({2048, 32, 8, d, 1, {}, 2040, 2 * 8 * d, 100});
    cases.push_back({819, 32, 8, d, 1, RandomPositions(819, 8192, seed), 811, 0, 64});
    cases.push_back({500, 8, 2, d, 3, RandomPositions(500, 700, seed + 1), 0, 0, 1});
    cases.push_back({64, 8, 8, d, 1, RandomPositions(64, 5000, seed + 2), 0, 0, 33});
  }
  cases.push_back({8192, 32, 8, 128, 1, {}, 8184});
  cases.push_back({3001, 4, 2, 128, 1, RandomPositions(3001, 40000, seed + 3), 0, 0, 7});
  return cases;
}

struct Tally {
  int run = 0, failed = 0, left_out = 0;
  double worst = 0, relative = 0;
};

void Report(const AttentionCase& c, const char* kernel, const Result& result, bool same_bits) {
  std::printf(
      "FAILED %s: rows %lld heads %d/%d d %d first_visible %lld keys %lld%s: error %.3g of "
      "tolerance, lse %.3g, relative %.3g%s\n",
      kernel, static_cast<long long>(c.rows), c.q_heads, c.kv_heads, c.head_dim,
      static_cast<long long>(c.first_visible), static_cast<long long>(c.keys()),
      c.positions.empty() ? "" : " positions", result.worst, result.worst_lse, result.relative,
      same_bits ? "" : ", other bits than the kernel before");
}

void Check(const AttentionCase& c, uint64_t seed, const std::vector<AttentionKernel>& kernels,
           std::vector<Tally>& tallies) {
  const Problem problem(c, seed);
  Result before;
  int before_arch = 0;
  for (size_t i = 0; i < kernels.size(); ++i) {
    if (!kernels[i].supports(problem.params())) {
      ++tallies[i].left_out;
      continue;
    }
    Result result = problem.Run(kernels[i]);
    const bool same_bits = kernels[i].arch != before_arch || result.out == before.out;
    Tally& tally = tallies[i];
    ++tally.run;
    tally.worst = std::max({tally.worst, result.worst, result.worst_lse});
    tally.relative = std::max(tally.relative, result.relative);
    if (!result.ok() || !same_bits) {
      ++tally.failed;
      Report(c, kernels[i].name, result, same_bits);
    }
    before = std::move(result);
    before_arch = kernels[i].arch;
  }
}

int Main(const char* prefix, uint64_t seed, double most_flop) {
  cudaDeviceProp device;
  if (cudaGetDeviceProperties(&device, 0) != cudaSuccess) device.major = 0;
  const std::vector<AttentionKernel> kernels = AttentionKernels(prefix, device.major);
  if (kernels.empty()) {
    std::fprintf(stderr, "no GPU that runs a kernel \"%s\"\n", prefix);
    return 2;
  }
  std::vector<Tally> tallies(kernels.size());
  uint64_t case_seed = seed;
  for (const AttentionCase& c : Cases(seed)) {
    if (c.flop() <= most_flop) Check(c, case_seed += 1000, kernels, tallies);
  }
  int failed = 0;
  for (size_t i = 0; i < kernels.size(); ++i) {
    const Tally& tally = tallies[i];
    failed += tally.failed;
    std::printf(
        "attention %s: %d cases, %d failed, %d left out; worst error %.3f of tolerance, largest "
        "relative norm %.2e; seed %llu\n",
        kernels[i].name, tally.run, tally.failed, tally.left_out, tally.worst, tally.relative,
        static_cast<unsigned long long>(seed));
  }
  return failed > 0 ? 1 : 0;
}

}  // namespace
}  // namespace winnow

int main(int argc, char** argv) {
  return winnow::Main(argc > 1 ? argv[1] : "",
                      argc > 2 ? std::strtoull(argv[2], nullptr, 10) : std::random_device{}(),
                      argc > 3 ? std::atof(argv[3]) : INFINITY);
}
