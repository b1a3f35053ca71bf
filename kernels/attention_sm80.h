#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/attention.h"
#include "kernels/attention_sm80_layout.h"
#include "kernels/types.h"

namespace winnow {

// Attention on the tensor cores of every NVIDIA GPU since sm_80 (mma.sync, cp.async): bf16,
// head_dim 64, 96 or 128, q, k, v and out 16-byte aligned, q_stride a multiple of 8, everything
// addressable by int32 rows. Of p alone: that the device is recent enough is the caller's to know.
bool AttentionSm80Supports(const AttentionParams& p);

// As kernels/attention.h says, enqueued. REQUIRES: AttentionSm80Supports(p); pointers are of the
// current device; block_rows is 64, 128 or 0 (PlanAttentionSm80 chooses; a row's result does not
// depend on it). What k and v hold at and beyond visible(rows − 1) is never let into a sum. Errors
// are left to cudaGetLastError.
void AttentionSm80(const AttentionParams& p, CudaStream stream, int block_rows = 0);

struct AttentionSm80Device {
  int multiprocessors = 1;
  int shared_bytes = 0;  // of a multiprocessor
  int64_t l2_bytes = 0;
};

// How the rows × heads are cut into blocks. Row r of a block is token r / pack, head r % pack.
struct AttentionSm80Plan {
  int block_rows = 0;     // 64 or 128
  int pack = 0;           // query heads of one kv head that share a block: a power of two
  int row_tiles = 0;      // blocks along the tokens
  int head_tiles = 0;     // blocks along the heads
  int group_tiles = 0;    // of them per kv head
  int section_heads = 0;  // head tiles that run at a time
};

// Pure. REQUIRES: AttentionSm80Supports(p), p.rows > 0.
inline AttentionSm80Plan PlanAttentionSm80(const AttentionParams& p,
                                           const AttentionSm80Device& device, int block_rows = 0) {
  AttentionSm80Plan plan;
  // Few tokens fill a block when heads share it, and a block spans few positions, so little of it
  // is masked.
  const int group = p.q_heads / p.kv_heads;
  plan.pack = std::min(group & -group, 16);
  plan.head_tiles = p.q_heads / plan.pack;
  plan.group_tiles = group / plan.pack;
  const auto row_tiles = [&](int rows) {
    return static_cast<int>((p.rows * plan.pack + rows - 1) / rows);
  };
  // With 128 rows a warp has 32 and uses what it reads of K and V twice; with 16, reading shared
  // memory (256 bytes per m16n8k16, 128 a clock) takes as long as an A100's products. But a
  // multiprocessor needs two blocks, so that one computes while the other waits: their shared
  // memory must fit (not so on sm_86 and sm_89, whose products are half as fast), and there must be
  // as many.
  const int two_blocks = 2 * (sm80::SharedBytes(p.head_dim, 128) + 1024);  // 1024 are the system's
  const bool fits = two_blocks <= device.shared_bytes;
  const bool many = int64_t{row_tiles(128)} * plan.head_tiles >= 2 * device.multiprocessors;
  plan.block_rows = block_rows != 0 ? block_rows : fits && many ? 128 : 64;
  plan.row_tiles = row_tiles(plan.block_rows);
  // K and V of a section stay in three quarters of the L2 cache while its blocks run.
  const int64_t head_bytes = p.capacity * p.head_dim * 2 * 2;
  const int64_t kv_heads = std::max<int64_t>(device.l2_bytes * 3 / 4 / head_bytes, 1);
  plan.section_heads =
      static_cast<int>(std::min<int64_t>(kv_heads * plan.group_tiles, plan.head_tiles));
  return plan;
}

}  // namespace winnow
