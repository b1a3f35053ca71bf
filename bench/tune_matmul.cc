// Tries cuBLASLt's algorithms for the products of a model on this GPU and writes the fastest as a
// table (kernels/cublas_algorithms.h).
//
//   tune_matmul [--config DIR] [--tp 1] [--rows 1,…,32768] [--candidates 24]
//               [--keep kernels/cublas_algorithms.inc] > cublas_algorithms.inc
//
// Random data, weights from device memory and not from the cache; each candidate is timed in three
// turns among the others, best of three. A line of progress for each product goes to standard
// error, with the rate of cuBLASLt's first choice and of the fastest. Entries of --keep for other
// GPUs, versions or products stay.
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <random>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "checkpoint/model_config.h"
#include "checkpoint/shard_plan.h"
#include "common/read_file.h"
#include "kernels/cublas_matmul.h"

namespace winnow {
namespace {

constexpr int64_t kMostLogitRows = 64;  // a decode step's

[[noreturn]] void Die(const std::string& text) {
  std::fprintf(stderr, "tune_matmul: %s\n", text.c_str());
  std::exit(1);
}

struct Flags {
  std::string config = std::string(WINNOW_SOURCE_DIR) + "/bench/configs/llama-3.1-8b";
  // Of decode steps, then of prefills: below 2,048 rows a tile of 128 more or less is much.
  std::vector<int64_t> rows = {1,    8,    16,   32,   64,   128,   256,  384,  512,
                               640,  768,  896,  1024, 1280, 1536,  1792, 2048, 2560,
                               3072, 3328, 4096, 6144, 8192, 16384, 32768};
  std::string keep;
  int tensor_parallel = 1;
  int candidates = 24;
};

Flags ParseFlags(int argc, char** argv) {
  Flags flags;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i], value = argv[i + 1];
    if (name == "--config") {
      flags.config = value;
    } else if (name == "--keep") {
      flags.keep = value;
    } else if (name == "--rows") {
      flags.rows.clear();
      for (const auto& text : absl::StrSplit(value, ',')) {
        if (!absl::SimpleAtoi(text, &flags.rows.emplace_back())) Die("--rows: " + value);
      }
    } else if (name == "--tp" && absl::SimpleAtoi(value, &flags.tensor_parallel)) {
      continue;
    } else if (name != "--candidates" || !absl::SimpleAtoi(value, &flags.candidates)) {
      Die(name + ": unknown, or not a number: " + value);
    }
  }
  return flags;
}

// Device memory with random values of a layer's size.
class RandomArray {
 public:
  explicit RandomArray(int64_t count) {
    std::mt19937 random(1);
    std::vector<__nv_bfloat16> host(std::min<int64_t>(count, 1 << 22));
    for (__nv_bfloat16& x : host) {
      x = __float2bfloat16(static_cast<float>(random() % 2001) * 1e-3f - 1.0f);
    }
    if (cudaMalloc(&data_, count * sizeof(__nv_bfloat16)) != cudaSuccess) Die("no device memory");
    for (int64_t at = 0; at < count; at += static_cast<int64_t>(host.size())) {
      const int64_t part = std::min<int64_t>(count - at, host.size());
      cudaMemcpy(static_cast<__nv_bfloat16*>(data_) + at, host.data(), part * sizeof(host[0]),
                 cudaMemcpyHostToDevice);
    }
  }
  ~RandomArray() { cudaFree(data_); }
  RandomArray(const RandomArray&) = delete;
  RandomArray& operator=(const RandomArray&) = delete;
  void* data() const { return data_; }

 private:
  void* data_ = nullptr;
};

class Timer {
 public:
  Timer() {
    cudaEventCreate(&begin_);
    cudaEventCreate(&end_);
  }
  ~Timer() {
    cudaEventDestroy(begin_);
    cudaEventDestroy(end_);
  }
  // Milliseconds of one launch, of `count` in a row.
  template <typename F>
  float Time(int count, F&& launch) {
    cudaEventRecord(begin_);
    for (int i = 0; i < count; ++i) launch();
    cudaEventRecord(end_);
    cudaEventSynchronize(end_);
    float ms = 0;
    cudaEventElapsedTime(&ms, begin_, end_);
    return ms / static_cast<float>(count);
  }

 private:
  cudaEvent_t begin_, end_;
};

CublasAlgorithmTable::Entry Tune(CublasMatmul& matmul, const MatmulClass& product, int candidates) {
  // So many copies in turns that the cache has forgotten the first when it comes again.
  constexpr int64_t kMoreThanCaches = int64_t{256} << 20;
  const int64_t weight_size = product.out_features * product.in_features;
  const int64_t copies = std::clamp<int64_t>(kMoreThanCaches / (2 * weight_size) + 1, 2, 32);
  const RandomArray w(copies * weight_size);
  const RandomArray x(product.rows * product.in_features);
  const RandomArray out(product.rows * product.out_features * (ElementSize(product.out_dtype) / 2));
  int64_t launched = 0;
  const auto next_weight = [&]() -> MatmulWeight {
    const auto* data =
        static_cast<const __nv_bfloat16*>(w.data()) + launched++ % copies * weight_size;
    return {data, product.dtype, product.out_features, product.in_features};
  };
  const MatmulParams params{.x = x.data(),
                            .out = out.data(),
                            .rows = product.rows,
                            .x_stride = product.in_features,
                            .out_dtype = product.out_dtype,
                            .accumulate = product.accumulates};
  const std::vector<CublasAlgorithm> algorithms =
      matmul.Candidates(next_weight(), params, candidates);
  if (algorithms.empty()) Die("no algorithm");
  const double flop = 2.0 * static_cast<double>(product.rows) *
                      static_cast<double>(product.out_features * product.in_features);
  const int launches = std::clamp(static_cast<int>(4e12 / flop), 2, 20);  // about 6 ms
  std::vector<float> best(algorithms.size(), 1e9f);
  Timer timer;
  for (int turn = 0; turn < 4; ++turn) {  // the first only warms up
    for (size_t i = 0; i < algorithms.size(); ++i) {
      std::string error;
      const float ms = timer.Time(
          launches, [&] { error += matmul.Run(next_weight(), params, algorithms[i], nullptr); });
      if (!error.empty()) continue;
      if (turn > 0) best[i] = std::min(best[i], ms);
    }
  }
  const auto fastest =
      static_cast<size_t>(std::min_element(best.begin(), best.end()) - best.begin());
  std::fprintf(stderr,
               "%6ld x %6ld x %6ld%s: first choice %5.0f TFLOP/s, number %2zu of %2zu %5.0f\n",
               static_cast<long>(product.rows), static_cast<long>(product.out_features),
               static_cast<long>(product.in_features), product.accumulates ? " +" : "  ",
               flop / best[0] * 1e-9, fastest, algorithms.size(), flop / best[fastest] * 1e-9);
  return {matmul.gpu(), CublasMatmul::Version(), product, algorithms[fastest]};
}

int Main(int argc, char** argv) {
  const Flags flags = ParseFlags(argc, argv);
  const auto config = LoadModelConfig(flags.config);
  if (!config.ok()) Die(config.status().ToString());
  const auto shard = MakeShardPlan(config->shape, flags.tensor_parallel, 0);
  if (!shard.ok()) Die(shard.status().ToString());
  std::string error;
  CublasMatmul matmul(&error);
  if (!error.empty()) Die(error);

  const ModelShape& shape = config->shape;
  const int64_t q = int64_t{shard->heads.q_count} * shape.head_dim;
  const int64_t kv = 2 * int64_t{shard->heads.kv_count} * shape.head_dim;
  const bool is_alone = flags.tensor_parallel == 1;
  std::vector<CublasAlgorithmTable::Entry> found;
  for (const int64_t rows : flags.rows) {
    const auto product = [&](bool accumulates, int64_t out, int64_t in) {
      return MatmulClass{DType::kBf16, DType::kBf16, accumulates, rows, out, in};
    };
    for (const MatmulClass& each :
         {product(false, q, shape.hidden), product(false, kv, shape.hidden),
          product(is_alone, shape.hidden, q), product(false, 2 * shard->mlp_count, shape.hidden),
          product(is_alone, shape.hidden, shard->mlp_count)}) {
      found.push_back(Tune(matmul, each, flags.candidates));
    }
    if (rows <= kMostLogitRows) {
      const MatmulClass logits{DType::kBf16, DType::kF32,        false,
                               rows,         shard->vocab_count, shape.hidden};
      found.push_back(Tune(matmul, logits, flags.candidates));
    }
  }
  if (!flags.keep.empty()) {
    const CublasAlgorithmTable kept(ReadFile(flags.keep).value_or(""));
    for (const CublasAlgorithmTable::Entry& old : kept.entries()) {
      const bool is_renewed = std::any_of(found.begin(), found.end(), [&](const auto& entry) {
        return entry.gpu == old.gpu && entry.version == old.version && entry.product == old.product;
      });
      if (!is_renewed) found.push_back(old);
    }
  }
  std::printf("R\"table(\n%s)table\"\n", FormatCublasAlgorithms(found).c_str());
  return 0;
}

}  // namespace
}  // namespace winnow

int main(int argc, char** argv) { return winnow::Main(argc, argv); }
