#include <cstring>

#include "kernels/embedding.h"

namespace winnow {

void EmbeddingCpu(const EmbeddingParams& p) {
  const int64_t row_bytes = p.hidden * ElementSize(p.dtype);
#pragma omp parallel for if (p.rows >= 256)
  for (int64_t i = 0; i < p.rows; ++i) {
    char* out = static_cast<char*>(p.out) + i * row_bytes;
    const int64_t local = p.ids[i] - p.shard_begin;
    if (local >= 0 && local < p.shard_rows) {
      std::memcpy(out, static_cast<const char*>(p.table) + local * row_bytes, row_bytes);
    } else {
      std::memset(out, 0, row_bytes);  // +0.0 in both types
    }
  }
}

}  // namespace winnow
