#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/paged_attention.h"
#include "kernels/rope.h"

namespace winnow {
namespace {

// Index of the first element of entry `slot` of a sequence's KV head in the pool.
int64_t EntryAt(const int32_t* blocks, int64_t slot, int kv_head, int kv_heads, int block_size,
                int head_dim) {
  return ((int64_t{blocks[slot / block_size]} * kv_heads + kv_head) * block_size +
          slot % block_size) *
         head_dim;
}

template <typename T>
void RunHead(const PagedAttentionParams& p, int64_t b, int h) {
  const int kv_head = h / (p.q_heads / p.kv_heads);
  const int32_t* blocks = p.block_table + b * p.table_stride;
  const T* q = static_cast<const T*>(p.q) + b * p.q_stride + int64_t{h} * p.head_dim;
  const int32_t length = p.lengths[b];
  std::vector<float> weight(length);
  float highest = -INFINITY;
  for (int32_t j = 0; j < length; ++j) {
    const T* k = static_cast<const T*>(p.k_blocks) +
                 EntryAt(blocks, j, kv_head, p.kv_heads, p.block_size, p.head_dim);
    float dot = 0.0f;
    for (int c = 0; c < p.head_dim; ++c) dot += ToFloat(q[c]) * ToFloat(k[c]);
    weight[j] = dot / std::sqrt(static_cast<float>(p.head_dim));
    highest = std::max(highest, weight[j]);
  }
  float sum = 0.0f;
  for (float& w : weight) sum += (w = std::exp(w - highest));
  T* out = static_cast<T*>(p.out) + (b * p.q_heads + h) * p.head_dim;
  for (int c = 0; c < p.head_dim; ++c) {
    float value = 0.0f;
    for (int32_t j = 0; j < length; ++j) {
      value +=
          weight[j] *
          ToFloat(static_cast<const T*>(
              p.v_blocks)[EntryAt(blocks, j, kv_head, p.kv_heads, p.block_size, p.head_dim) + c]);
    }
    out[c] = FromFloat<T>(value / sum);
  }
}

template <typename T>
void Run(const PagedAttentionParams& p) {
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int h = 0; h < p.q_heads; ++h) RunHead<T>(p, b, h);
  }
}

}  // namespace

void PagedAttentionRef(const PagedAttentionParams& p) {
  p.dtype == DType::kF32 ? Run<float>(p) : Run<Bf16>(p);
}

void PagedStoreKvRef(const PagedStoreKvParams& p) {
  const int64_t element = ElementSize(p.dtype);
  const int64_t row_bytes = 2 * int64_t{p.kv_heads} * p.head_dim * element;
  const int64_t block_bytes = int64_t{p.kv_heads} * p.block_size * p.head_dim * element;
  for (int64_t b = 0; b < p.batch; ++b) {
    // A block is a cache of block_size slots per head.
    const int64_t block = p.block_table[b * p.table_stride + p.slots[b] / p.block_size];
    StoreKvRef({.kv = static_cast<const char*>(p.kv) + b * row_bytes,
                .positions = p.positions + b,
                .inv_freq = p.inv_freq,
                .k_cache = static_cast<char*>(p.k_blocks) + block * block_bytes,
                .v_cache = static_cast<char*>(p.v_blocks) + block * block_bytes,
                .dtype = p.dtype,
                .rows = 1,
                .slot_begin = p.slots[b] % p.block_size,
                .capacity = p.block_size,
                .heads = p.kv_heads,
                .head_dim = p.head_dim,
                .scale = p.scale,
                .norm = p.norm});
  }
}

// One row per sequence: nothing to speed up.
void PagedStoreKvCpu(const PagedStoreKvParams& p) { PagedStoreKvRef(p); }

}  // namespace winnow
