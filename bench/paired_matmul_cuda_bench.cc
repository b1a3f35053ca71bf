// Products of Llama-3.1-8B's layers with what follows them in one kernel, beside a product by
// cuBLASLt and the other op after it: the MLP's first half with SwiGLU, queries with RoPE, keys and
// values with RoPE and their store. JSON with the share of the time that one kernel takes. Both in
// turns, in runs as long as a prefill's, since the power limit lowers the clock under long ones.
//   paired_matmul_cuda_bench [rows, …]

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <numeric>
#include <vector>

#include "bench/cuda_random.h"
#include "kernels/cublas_matmul.h"
#include "kernels/gated_act.h"
#include "kernels/gated_matmul.h"
#include "kernels/rotated_matmul.h"

namespace winnow {
namespace {

constexpr int64_t kHidden = 4096, kMlp = 14336, kQHeads = 32, kKvHeads = 8, kHeadDim = 128;

double SecondsOf(const std::function<void()>& run, int count) {
  cudaEvent_t begin, end;
  REQUIRE_CUDA(cudaEventCreate(&begin));
  REQUIRE_CUDA(cudaEventCreate(&end));
  REQUIRE_CUDA(cudaEventRecord(begin));
  for (int i = 0; i < count; ++i) run();
  REQUIRE_CUDA(cudaEventRecord(end));
  REQUIRE_CUDA(cudaEventSynchronize(end));
  float ms = 0;
  REQUIRE_CUDA(cudaEventElapsedTime(&ms, begin, end));
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  return ms * 1e-3 / count;
}

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

// Prints one line of JSON; `flop` of one call.
void Compare(const char* name, int64_t rows, double flop, const std::function<void()>& two_steps,
             const std::function<void()>& one_step) {
  const int count = std::max(3, static_cast<int>(0.1 / (flop / 700e12)));
  std::vector<double> two, one;
  for (int i = 0; i < 6; ++i) {
    const double a = SecondsOf(two_steps, count), b = SecondsOf(one_step, count);
    if (i > 0) two.push_back(a), one.push_back(b);
  }
  REQUIRE_CUDA(cudaGetLastError());
  std::printf(
      ",\n \"%s %lld\": {\"two_ms\": %.4f, \"one_ms\": %.4f, \"one_tflops\": %.1f, "
      "\"share\": %.3f}",
      name, static_cast<long long>(rows), Median(two) * 1e3, Median(one) * 1e3,
      flop / Median(one) * 1e-12, Median(one) / Median(two));
  std::fflush(stdout);
}

void* ToDevice(const void* host, size_t bytes) {
  void* data = nullptr;
  REQUIRE_CUDA(cudaMalloc(&data, bytes));
  REQUIRE_CUDA(cudaMemcpy(data, host, bytes, cudaMemcpyHostToDevice));
  return data;
}

int Main(const std::vector<int64_t>& sizes) {
  cudaDeviceProp device;
  REQUIRE_CUDA(cudaGetDeviceProperties(&device, 0));
  std::string error;
  CublasMatmul cublas(&error);
  const auto matmul = [&](const MatmulWeight& w, const MatmulParams& params) {
    error = cublas.Run(w, params, nullptr);
    if (!error.empty()) std::fprintf(stderr, "%s\n", error.c_str()), std::exit(1);
  };
  const auto weight = [](int64_t out_features) {
    return MatmulWeight{RandomBf16(out_features * kHidden, 1, 0.02f), DType::kBf16, out_features,
                        kHidden};
  };
  const int64_t most = *std::max_element(sizes.begin(), sizes.end());
  const MatmulWeight gate_up = weight(2 * kMlp), q = weight(kQHeads * kHeadDim),
                     kv = weight(2 * kKvHeads * kHeadDim);
  void* x = RandomBf16(most * kHidden, 2);
  void* between = RandomBf16(most * 2 * kMlp, 3);
  void* out = RandomBf16(most * kMlp, 4);
  std::vector<int32_t> positions(most);
  std::iota(positions.begin(), positions.end(), 0);
  const std::vector<float> inv_freq(kHeadDim / 2, 0.1f);
  const auto* device_positions =
      static_cast<int32_t*>(ToDevice(positions.data(), most * sizeof(int32_t)));
  const auto* device_inv_freq =
      static_cast<float*>(ToDevice(inv_freq.data(), inv_freq.size() * sizeof(float)));
  std::printf("{\"device\": \"%s\"", device.name);
  for (const int64_t rows : sizes) {
    const auto flop = [&](const MatmulWeight& w) { return 2.0 * rows * w.out_features * kHidden; };
    const MatmulParams product{x, between, rows, kHidden, DType::kBf16};
    Compare(
        "gate_up", rows, flop(gate_up),
        [&] {
          matmul(gate_up, product);
          GatedActCuda({between, out, DType::kBf16, rows, kMlp}, nullptr);
        },
        [&] {
          GatedMatmulSm90(gate_up, {x, out, rows, kHidden}, nullptr);
        });
    const RopeParams rope{.x = between,
                          .positions = device_positions,
                          .inv_freq = device_inv_freq,
                          .dtype = DType::kBf16,
                          .rows = rows,
                          .x_stride = kQHeads * kHeadDim,
                          .heads = kQHeads,
                          .head_dim = kHeadDim};
    Compare(
        "q", rows, flop(q), [&] { matmul(q, product), RopeCuda(rope, nullptr); },
        [&] { RotatedMatmulSm90(q, product, rope, nullptr); });
    const StoreKvParams store{.kv = between,
                              .positions = device_positions,
                              .inv_freq = device_inv_freq,
                              .k_cache = out,
                              .v_cache = static_cast<char*>(out) + 2 * rows * kKvHeads * kHeadDim,
                              .dtype = DType::kBf16,
                              .rows = rows,
                              .capacity = rows,
                              .heads = kKvHeads,
                              .head_dim = kHeadDim};
    Compare(
        "kv", rows, flop(kv), [&] { matmul(kv, product), StoreKvCuda(store, nullptr); },
        [&] { RotatedMatmulSm90(kv, product, store, nullptr); });
  }
  std::printf("}\n");
  return 0;
}

}  // namespace
}  // namespace winnow

int main(int argc, char** argv) {
  std::vector<int64_t> sizes;
  for (int i = 1; i < argc; ++i) sizes.push_back(std::atoll(argv[i]));
  if (sizes.empty()) sizes = {64, 128, 256, 512, 819, 1024, 2048, 3276, 4096, 8192, 16384, 32768};
  return winnow::Main(sizes);
}
