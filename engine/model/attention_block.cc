#include "engine/model/attention_block.h"

#include <algorithm>

#include "common/status_macros.h"

namespace winnow {

absl::StatusOr<std::unique_ptr<AttentionBlock>> AttentionBlock::Create(const ModelWeights& weights,
                                                                       Backend& backend,
                                                                       int64_t max_rows) {
  auto block = std::unique_ptr<AttentionBlock>(new AttentionBlock(weights, backend));
  const int64_t q_bytes = max_rows * block->q_row_bytes();
  WINNOW_ASSIGN_OR_RETURN(block->q_, backend.Allocate(q_bytes));
  WINNOW_ASSIGN_OR_RETURN(block->kv_, backend.Allocate(max_rows * block->kv_row_bytes()));
  WINNOW_ASSIGN_OR_RETURN(block->attention_out_, backend.Allocate(q_bytes));
  return block;
}

int64_t AttentionBlock::q_row_bytes() const {
  return int64_t{weights_.shard.heads.q_count} * weights_.config.shape.head_dim *
         ElementSize(backend_.dtype());
}

int64_t AttentionBlock::kv_row_bytes() const {
  return 2 * int64_t{weights_.shard.heads.kv_count} * weights_.config.shape.head_dim *
         ElementSize(backend_.dtype());
}

void AttentionBlock::ProjectQ(int layer, const Rows& rows) {
  const ModelShape& shape = weights_.config.shape;
  const AttentionWeights& w = weights_.layers[layer].attention;
  const int heads = weights_.shard.heads.q_count;
  void* out = q_.at(rows.begin * q_row_bytes());
  backend_.MatmulRope(*w.q,
                      {.x = rows.normed,
                       .out = out,
                       .rows = rows.count,
                       .x_stride = shape.hidden,
                       .out_dtype = backend_.dtype(),
                       .bias = w.q_bias.data()},
                      {.x = out,
                       .positions = rows.positions,
                       .inv_freq = weights_.inv_freq.data<float>(),
                       .dtype = backend_.dtype(),
                       .rows = rows.count,
                       .x_stride = int64_t{heads} * shape.head_dim,
                       .heads = heads,
                       .head_dim = shape.head_dim,
                       .scale = rope_scale(),
                       .norm = Norm(w.q_norm)});
}

std::vector<StoreKvParams> AttentionBlock::Stores(int layer, const Rows& rows, void* kv,
                                                  absl::Span<const KvSlots> slots) const {
  std::vector<StoreKvParams> stores;
  int64_t sequence_begin = 0;
  for (const KvSlots& sequence : slots) {
    const int64_t begin = std::max(rows.begin, sequence_begin);
    const int64_t end = std::min(rows.begin + rows.count, sequence_begin + sequence.rows);
    if (begin < end) {  // the sequence has rows among these
      const int64_t offset = begin - rows.begin;
      stores.push_back({.kv = static_cast<std::byte*>(kv) + offset * kv_row_bytes(),
                        .positions = rows.positions + offset,
                        .inv_freq = weights_.inv_freq.data<float>(),
                        .k_cache = sequence.keys,
                        .v_cache = sequence.values,
                        .dtype = backend_.dtype(),
                        .rows = end - begin,
                        .slot_begin = sequence.slot_begin + begin - sequence_begin,
                        .capacity = sequence.capacity,
                        .heads = weights_.shard.heads.kv_count,
                        .head_dim = weights_.config.shape.head_dim,
                        .scale = rope_scale(),
                        .norm = key_norm(layer)});
    }
    sequence_begin += sequence.rows;
  }
  return stores;
}

void AttentionBlock::ProjectKv(int layer, const Rows& rows, absl::Span<const KvSlots> slots) {
  const AttentionWeights& w = weights_.layers[layer].attention;
  void* out = kv_.at(rows.begin * kv_row_bytes());
  const MatmulParams matmul = {.x = rows.normed,
                               .out = out,
                               .rows = rows.count,
                               .x_stride = weights_.config.shape.hidden,
                               .out_dtype = backend_.dtype(),
                               .bias = w.kv_bias.data()};
  const std::vector<StoreKvParams> stores = Stores(layer, rows, out, slots);
  // Rows of one sequence can be stored by the product's own kernel.
  if (stores.size() == 1) return backend_.MatmulStoreKv(*w.kv, matmul, stores.front());
  backend_.Matmul(*w.kv, matmul);
  for (const StoreKvParams& store : stores) backend_.StoreKv(store);
}

void AttentionBlock::ProjectOutput(const OutputParams& params) {
  const int64_t q_width = int64_t{weights_.shard.heads.q_count} * weights_.config.shape.head_dim;
  backend_.Matmul(*weights_.layers[params.layer].attention.o, {.x = params.attention,
                                                               .out = params.out,
                                                               .rows = params.rows,
                                                               .x_stride = q_width,
                                                               .out_dtype = backend_.dtype(),
                                                               .accumulate = params.accumulate});
}

}  // namespace winnow
