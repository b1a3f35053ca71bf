#pragma once

#include <cstdint>

#include "kernels/rope.h"
#include "kernels/types.h"

namespace winnow {

// One decode step's attention: every sequence's single query against its own cached entries, which
// lie in blocks of a pool. All entries are visible; their positions are already in K's rotation.
// fp32 inside. Cost: reads 2·kv_heads·head_dim·length elements per sequence.
struct PagedAttentionParams {
  const void* q = nullptr;  // [batch][q_heads][head_dim], rows q_stride elements apart, rotated
  const void* k_blocks = nullptr;        // [block][kv_heads][block_size][head_dim]
  const void* v_blocks = nullptr;        // [block][kv_heads][block_size][head_dim]
  void* out = nullptr;                   // [batch][q_heads][head_dim], dense
  const int32_t* block_table = nullptr;  // a row per sequence: block ids in order
  const int32_t* lengths = nullptr;      // [batch]: entries, ≥ 1
  DType dtype = DType::kF32;             // of q, k, v, out
  int64_t batch = 0;
  int64_t q_stride = 0;
  int64_t table_stride = 0;  // ids from row to row of block_table
  int block_size = 0;
  int q_heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
};

void PagedAttentionRef(const PagedAttentionParams& p);
void PagedAttentionCpu(const PagedAttentionParams& p);
// `workspace`: PagedAttentionWorkspace(p) bytes of device memory, all zero before its first use and
// left so that any call in the same stream may use it next.
void PagedAttentionCuda(const PagedAttentionParams& p, void* workspace, CudaStream stream);
int64_t PagedAttentionWorkspace(const PagedAttentionParams& p);

// Writes one new K (rotated) and V per sequence into its blocks at entry slots[i].
struct PagedStoreKvParams {
  const void* kv = nullptr;            // [batch][2][kv_heads][head_dim], dense
  const int32_t* positions = nullptr;  // [batch]
  const float* inv_freq = nullptr;     // [head_dim / 2]
  void* k_blocks = nullptr;            // [block][kv_heads][block_size][head_dim]
  void* v_blocks = nullptr;
  const int32_t* block_table = nullptr;  // a row per sequence
  const int32_t* slots = nullptr;        // [batch]: entry index within the sequence
  DType dtype = DType::kF32;
  int64_t batch = 0;
  int64_t table_stride = 0;  // ids from row to row of block_table
  int block_size = 0;
  int kv_heads = 0;
  int head_dim = 0;
  float scale = 1.0f;  // of the rotation, see rope.h
  HeadNorm norm;       // of K
};

void PagedStoreKvRef(const PagedStoreKvParams& p);
void PagedStoreKvCpu(const PagedStoreKvParams& p);
void PagedStoreKvCuda(const PagedStoreKvParams& p, CudaStream stream);

}  // namespace winnow
