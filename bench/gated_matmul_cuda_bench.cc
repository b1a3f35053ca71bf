// The first half of an MLP with SwiGLU on the shape of Llama-3.1-8B: one kernel beside a product by
// cuBLASLt and SwiGLU after it, as JSON with the share of the time that one kernel takes. Both in
// turns, in runs as long as a prefill's, since the power limit lowers the clock under long ones.
//   gated_matmul_cuda_bench [rows, …]

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

#include "bench/cuda_random.h"
#include "kernels/cublas_matmul.h"
#include "kernels/gated_matmul.h"
#include "kernels/silu_mul.h"
#include "tests/kernels/gated_matmul_cases.h"

namespace winnow {
namespace {

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

int Main(const std::vector<int64_t>& sizes) {
  cudaDeviceProp device;
  REQUIRE_CUDA(cudaGetDeviceProperties(&device, 0));
  std::string error;
  CublasMatmul matmul(&error);
  if (!error.empty()) return std::fprintf(stderr, "%s\n", error.c_str()), 1;
  const int64_t most = *std::max_element(sizes.begin(), sizes.end());
  const GatedMatmulCase shape = Llama8bGatedMatmul(most);
  const MatmulWeight w{RandomBf16(2 * shape.width * shape.in_features, 1, 0.02f), DType::kBf16,
                       2 * shape.width, shape.in_features};
  void* x = RandomBf16(most * shape.in_features, 2);
  void* gate_up = RandomBf16(most * 2 * shape.width, 3);
  void* out = RandomBf16(most * shape.width, 4);
  std::printf("{\"device\": \"%s\"", device.name);
  for (const int64_t rows : sizes) {
    const double flop = 4.0 * rows * shape.width * shape.in_features;
    const auto two_steps = [&] {
      error = matmul.Run(w, {x, gate_up, rows, shape.in_features, DType::kBf16}, nullptr);
      if (!error.empty()) std::fprintf(stderr, "%s\n", error.c_str()), std::exit(1);
      SiluMulCuda({gate_up, out, DType::kBf16, rows, shape.width}, nullptr);
    };
    const auto one_step = [&] { GatedMatmulSm90(w, {x, out, rows, shape.in_features}, nullptr); };
    const int count = std::max(3, static_cast<int>(0.1 / (flop / 700e12)));
    std::vector<double> two, one;
    for (int i = 0; i < 6; ++i) {
      const double a = SecondsOf(two_steps, count), b = SecondsOf(one_step, count);
      if (i > 0) two.push_back(a), one.push_back(b);
    }
    REQUIRE_CUDA(cudaGetLastError());
    std::printf(
        ",\n \"%lld\": {\"two_ms\": %.4f, \"one_ms\": %.4f, \"one_tflops\": %.1f, "
        "\"share\": %.3f}",
        static_cast<long long>(rows), Median(two) * 1e3, Median(one) * 1e3,
        flop / Median(one) * 1e-12, Median(one) / Median(two));
    std::fflush(stdout);
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
