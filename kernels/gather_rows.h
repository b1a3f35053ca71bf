#pragma once

#include <cstdint>

#include "kernels/types.h"

namespace winnow {

// out[h,i] = in[h, index[h,i]] for rows of row_bytes. One op serves hidden rows (heads = 1) and
// per-head KV compaction.
struct GatherRowsParams {
  const void* in = nullptr;  // [heads][in_head_stride bytes]
  void* out = nullptr;       // [heads][out_head_stride bytes]
  const int32_t* index =
      nullptr;       // [heads][index_head_stride]; a stride of 0 shares one list among heads
  int64_t rows = 0;  // entries gathered per head
  int64_t row_bytes = 0;
  int64_t in_head_stride = 0;     // bytes
  int64_t out_head_stride = 0;    // bytes
  int64_t index_head_stride = 0;  // elements
  int heads = 1;
};

void GatherRowsRef(const GatherRowsParams& p);
void GatherRowsCpu(const GatherRowsParams& p);
void GatherRowsCuda(const GatherRowsParams& p, CudaStream stream);

}  // namespace winnow
