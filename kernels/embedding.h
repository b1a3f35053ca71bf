#pragma once

#include <cstdint>

#include "kernels/types.h"

namespace winnow {

// Row look-up in one vocabulary shard: out[i] = table[ids[i] − shard_begin] when the shard holds
// ids[i], else zeros, so that the sum over shards is the embedding.
struct EmbeddingParams {
  const int32_t* ids = nullptr;  // [rows]
  const void* table = nullptr;   // [shard_rows][hidden]
  void* out = nullptr;           // [rows][hidden]
  DType dtype = DType::kF32;     // of table and out
  int64_t rows = 0;
  int64_t hidden = 0;
  int64_t shard_begin = 0;
  int64_t shard_rows = 0;
};

void EmbeddingRef(const EmbeddingParams& p);
void EmbeddingCpu(const EmbeddingParams& p);
void EmbeddingCuda(const EmbeddingParams& p, CudaStream stream);

}  // namespace winnow
