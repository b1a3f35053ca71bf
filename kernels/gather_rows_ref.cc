#include <cstring>

#include "kernels/gather_rows.h"

namespace winnow {

void GatherRowsRef(const GatherRowsParams& p) {
  for (int h = 0; h < p.heads; ++h) {
    const char* in = static_cast<const char*>(p.in) + h * p.in_head_stride;
    char* out = static_cast<char*>(p.out) + h * p.out_head_stride;
    const int32_t* index = p.index + h * p.index_head_stride;
    for (int64_t i = 0; i < p.rows; ++i) {
      std::memcpy(out + i * p.row_bytes, in + index[i] * p.row_bytes, p.row_bytes);
    }
  }
}

}  // namespace winnow
