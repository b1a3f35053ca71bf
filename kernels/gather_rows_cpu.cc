#include <cstring>

#include "kernels/gather_rows.h"

namespace winnow {

void GatherRowsCpu(const GatherRowsParams& p) {
  const char* in = static_cast<const char*>(p.in);
  char* out = static_cast<char*>(p.out);
#pragma omp parallel for collapse(2) if (p.heads * p.rows >= 256)
  for (int h = 0; h < p.heads; ++h) {
    for (int64_t i = 0; i < p.rows; ++i) {
      const int64_t from = p.index[h * p.index_head_stride + i];
      std::memcpy(out + h * p.out_head_stride + i * p.row_bytes,
                  in + h * p.in_head_stride + from * p.row_bytes, p.row_bytes);
    }
  }
}

}  // namespace winnow
