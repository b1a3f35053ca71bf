#pragma once

#include <cstdint>
#include <memory>

#include "kernels/types.h"

namespace winnow {

// out[i,o] = Σ_c x[i,c] · w[o,c] + bias[o], with `accumulate` + out[i,o], summed in fp32. Cost:
// 2·rows·out_features·in_features FLOP.
struct MatmulParams {
  const void* x =
      nullptr;           // [rows][in_features] of the weight's type, rows x_stride elements apart
  void* out = nullptr;   // [rows][out_features] of out_dtype, dense
  int64_t rows = 0;      // ≥ 0
  int64_t x_stride = 0;  // ≥ in_features; the CPU copies x first when it is greater
  DType out_dtype = DType::kF32;  // kF32 or the weight's type
  // [out_features] of the weight's type, which is then out's, too; null: none.
  const void* bias = nullptr;
  bool accumulate = false;  // adds to what out holds: a residual connection
};

// w as a checkpoint stores a linear layer: [out_features][in_features], dense, x's type.
struct MatmulWeight {
  const void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t out_features = 0;
  int64_t in_features = 0;
};

void MatmulRef(const MatmulWeight& w, const MatmulParams& p);

// oneDNN matmul with the weight packed once, at construction, into the layout that oneDNN likes
// best for many rows. Not thread-safe: one rank's thread uses it. OpenMP's thread count of the
// calling thread applies.
class CpuMatmul {
 public:
  // Copies (packs) `w`; its data may go afterwards. Aborts on a oneDNN error, which only a bug can
  // cause.
  explicit CpuMatmul(const MatmulWeight& w);
  ~CpuMatmul();
  CpuMatmul(const CpuMatmul&) = delete;
  CpuMatmul& operator=(const CpuMatmul&) = delete;

  void Run(const MatmulParams& p);

  int64_t out_features() const;
  int64_t in_features() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// True when oneDNN multiplies bf16 natively here (avx512_bf16 or AMX).
bool CpuHasBf16();

}  // namespace winnow
