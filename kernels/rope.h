#pragma once

#include <cstdint>

#include "kernels/types.h"

namespace winnow {

// RMSNorm of every head on its own before its rotation (Qwen3), rounded to the type as stored:
// x[c] ← x[c] · rsqrt(mean_c x[c]² + eps) · weight[c].
struct HeadNorm {
  const void* weight = nullptr;  // [head_dim]; null: none
  float eps = 0;
};

// Rotary position embedding (arXiv 2104.09864) in the half-split layout of Hugging Face
// checkpoints: for c < d/2 and θ = position · inv_freq[c], (x[c], x[c+d/2]) ← (x[c] cos θ −
// x[c+d/2] sin θ, x[c+d/2] cos θ + x[c] sin θ). fp32 inside, then multiplied by `scale` (1 but for
// YaRN).
struct RopeParams {
  void* x = nullptr;  // [rows][heads][head_dim], rows x_stride elements apart; in place
  const int32_t* positions = nullptr;  // [rows]
  const float* inv_freq = nullptr;     // [head_dim / 2]
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t x_stride = 0;
  int heads = 0;
  int head_dim = 0;
  float scale = 1.0f;
  HeadNorm norm;
};

void RopeRef(const RopeParams& p);
void RopeCpu(const RopeParams& p);
void RopeCuda(const RopeParams& p, CudaStream stream);

// Splits projected rows into K and V, norms and rotates K, and writes both head-major into a cache
// at slots slot_begin + i.
struct StoreKvParams {
  const void* kv = nullptr;            // [rows][2][heads][head_dim], dense: K of all heads, then V
  const int32_t* positions = nullptr;  // [rows], of K's rotation
  const float* inv_freq = nullptr;     // [head_dim / 2]
  void* k_cache = nullptr;             // [heads][capacity][head_dim]
  void* v_cache = nullptr;             // [heads][capacity][head_dim]
  DType dtype = DType::kF32;           // of kv and both caches
  int64_t rows = 0;
  int64_t slot_begin = 0;
  int64_t capacity = 0;  // slots per head; slot_begin + rows ≤ capacity
  int heads = 0;
  int head_dim = 0;
  float scale = 1.0f;
  HeadNorm norm;  // of K
};

void StoreKvRef(const StoreKvParams& p);
void StoreKvCpu(const StoreKvParams& p);
void StoreKvCuda(const StoreKvParams& p, CudaStream stream);

}  // namespace winnow
