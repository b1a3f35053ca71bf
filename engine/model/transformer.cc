#include "engine/model/transformer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace winnow {
namespace {

constexpr int64_t kPartRows = 128;  // parts are whole tiles of a product

void* At(const void* data, int64_t bytes) {
  return const_cast<std::byte*>(static_cast<const std::byte*>(data)) + bytes;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Transformer>> Transformer::Create(const ModelWeights& weights,
                                                                 Backend& backend,
                                                                 Communicator& communicator,
                                                                 int64_t max_rows,
                                                                 int64_t max_logit_rows) {
  auto t = std::unique_ptr<Transformer>(new Transformer(weights, backend, communicator));
  const ModelShape& shape = weights.config.shape;
  const ShardPlan& shard = weights.shard;
  const int64_t element = ElementSize(backend.dtype());
  const int64_t row = max_rows * element;
  WINNOW_ASSIGN_OR_RETURN(t->normed_, backend.Allocate(row * shape.hidden));
  WINNOW_ASSIGN_OR_RETURN(t->q_, backend.Allocate(row * shard.heads.q_count * shape.head_dim));
  WINNOW_ASSIGN_OR_RETURN(t->kv_,
                          backend.Allocate(row * 2 * shard.heads.kv_count * shape.head_dim));
  WINNOW_ASSIGN_OR_RETURN(t->attention_,
                          backend.Allocate(row * shard.heads.q_count * shape.head_dim));
  WINNOW_ASSIGN_OR_RETURN(t->mlp_, backend.Allocate(row * shard.mlp_count));
  const int64_t gated_bytes = backend.WorkspaceBytes(*weights.layers[0].gate_up,
                                                     {.rows = max_rows, .x_stride = shape.hidden});
  WINNOW_ASSIGN_OR_RETURN(t->gated_workspace_, backend.Allocate(gated_bytes));
  if (communicator.size() > 1) {
    WINNOW_ASSIGN_OR_RETURN(t->delta_, backend.Allocate(row * shape.hidden));
    if (t->Split(max_rows).front().is_aside) {
      const int64_t part = (max_rows / 2 + kPartRows) * shape.hidden * element;  // no part has more
      WINNOW_ASSIGN_OR_RETURN(t->inbox_, backend.Allocate(2 * (communicator.size() - 1) * part));
    }
    const int64_t shard_bytes = max_logit_rows * shard.vocab_count * int64_t{sizeof(float)};
    WINNOW_ASSIGN_OR_RETURN(t->logits_shard_, backend.Allocate(shard_bytes));
    WINNOW_ASSIGN_OR_RETURN(t->logits_gathered_,
                            backend.Allocate(shard_bytes * communicator.size()));
  }
  return t;
}

absl::Status Transformer::Embed(const int32_t* ids, int64_t rows, void* x, Deadline deadline) {
  backend_.Embedding({.ids = ids,
                      .table = weights_.embedding.data(),
                      .out = x,
                      .dtype = backend_.dtype(),
                      .rows = rows,
                      .hidden = weights_.config.shape.hidden,
                      .shard_begin = weights_.shard.vocab_begin,
                      .shard_rows = weights_.shard.vocab_count});
  if (is_alone()) return absl::OkStatus();
  return communicator_.AllReduceSum(x, backend_.dtype(), rows * weights_.config.shape.hidden,
                                    deadline);  // all but one shard add zeros: exact
}

absl::StatusOr<Transformer::Input> Transformer::ProjectInput(const InputParams& params,
                                                             Deadline deadline) {
  const ModelShape& shape = weights_.config.shape;
  const LayerWeights& w = weights_.layers[params.layer];
  const int64_t element = ElementSize(backend_.dtype());
  const int64_t q_row = int64_t{weights_.shard.heads.q_count} * shape.head_dim * element;
  const int64_t kv_row = 2 * int64_t{weights_.shard.heads.kv_count} * shape.head_dim * element;
  const bool is_whole = unfinished_.empty();
  const Parts parts = is_whole ? Parts{{.count = params.rows}} : std::exchange(unfinished_, {});
  for (const Part& part : parts) {
    Addends delta;
    if (!is_whole) {
      WINNOW_ASSIGN_OR_RETURN(delta, JoinSum(part, deadline));
    }
    void* normed = At(normed_.data(), part.begin * shape.hidden * element);
    AddAndNorm(part, params.x, delta, w.input_norm.data(), normed);
    if (params.with_kv) MatmulKv(params, part, normed, At(kv_.data(), part.begin * kv_row));
    if (params.with_q) {
      MatmulQ(params.layer, normed, params.positions + part.begin, part.count,
              At(q_.data(), part.begin * q_row));
    }
  }
  return Input{normed_.data(), q_.data(), kv_.data()};
}

const void* Transformer::ProjectQ(int layer, const void* normed, const int32_t* positions,
                                  int64_t rows) {
  MatmulQ(layer, normed, positions, rows, q_.data());
  return q_.data();
}

void Transformer::MatmulQ(int layer, const void* normed, const int32_t* positions, int64_t rows,
                          void* out) {
  const ModelShape& shape = weights_.config.shape;
  const LayerWeights& w = weights_.layers[layer];
  const int heads = weights_.shard.heads.q_count;
  backend_.MatmulRope(*w.q,
                      {.x = normed,
                       .out = out,
                       .rows = rows,
                       .x_stride = shape.hidden,
                       .out_dtype = backend_.dtype(),
                       .bias = w.q_bias.data()},
                      {.x = out,
                       .positions = positions,
                       .inv_freq = weights_.inv_freq.data<float>(),
                       .dtype = backend_.dtype(),
                       .rows = rows,
                       .x_stride = int64_t{heads} * shape.head_dim,
                       .heads = heads,
                       .head_dim = shape.head_dim,
                       .scale = rope_scale(),
                       .norm = Norm(w.q_norm)});
}

void Transformer::MatmulKv(const InputParams& params, const Part& part, const void* normed,
                           void* out) {
  const ModelShape& shape = weights_.config.shape;
  const LayerWeights& w = weights_.layers[params.layer];
  const int heads = weights_.shard.heads.kv_count;
  const int64_t kv_row = 2 * int64_t{heads} * shape.head_dim * ElementSize(backend_.dtype());
  const MatmulParams matmul = {.x = normed,
                               .out = out,
                               .rows = part.count,
                               .x_stride = shape.hidden,
                               .out_dtype = backend_.dtype(),
                               .bias = w.kv_bias.data()};
  std::vector<StoreKvParams> stores;  // of the sequences that have rows in the part
  int64_t sequence_begin = 0;
  for (const KvSlots& slots : params.slots) {
    const int64_t begin = std::max(part.begin, sequence_begin);
    const int64_t end = std::min(part.begin + part.count, sequence_begin + slots.rows);
    if (begin < end) {
      stores.push_back({.kv = At(out, (begin - part.begin) * kv_row),
                        .positions = params.positions + begin,
                        .inv_freq = weights_.inv_freq.data<float>(),
                        .k_cache = slots.keys,
                        .v_cache = slots.values,
                        .dtype = backend_.dtype(),
                        .rows = end - begin,
                        .slot_begin = slots.slot_begin + begin - sequence_begin,
                        .capacity = slots.capacity,
                        .heads = heads,
                        .head_dim = shape.head_dim,
                        .scale = rope_scale(),
                        .norm = key_norm(params.layer)});
    }
    sequence_begin += slots.rows;
  }
  if (stores.size() == 1) return backend_.MatmulStoreKv(*w.kv, matmul, stores.front());
  backend_.Matmul(*w.kv, matmul);
  for (const StoreKvParams& store : stores) backend_.StoreKv(store);
}

Transformer::Parts Transformer::Split(int64_t rows) const {
  const int64_t first = rows / 2 / kPartRows * kPartRows;
  const bool splits =
      first > 0 && first * weights_.config.shape.hidden >= communicator_.least_aside();
  if (!splits || is_alone()) return {{.count = rows}};
  return {{.count = first, .is_aside = true},
          {.index = 1, .begin = first, .count = rows - first, .is_aside = true}};
}

void* Transformer::Delta(const Part& part, void* x) const {
  const int64_t row_bytes = int64_t{weights_.config.shape.hidden} * ElementSize(backend_.dtype());
  return At(is_alone() ? x : delta_.data(), part.begin * row_bytes);
}

Communicator::Sum Transformer::SumOf(const Part& part) const {
  const int64_t hidden = weights_.config.shape.hidden;
  const int64_t inbox_bytes = static_cast<int64_t>(inbox_.bytes()) / 2;
  return {.data = Delta(part, nullptr),
          .inbox = At(inbox_.data(), part.index * inbox_bytes),
          .dtype = backend_.dtype(),
          .count = part.count * hidden};
}

absl::Status Transformer::BeginSum(const Part& part, Deadline deadline) {
  if (is_alone()) return absl::OkStatus();
  const Communicator::Sum sum = SumOf(part);
  return part.is_aside ? communicator_.BeginSum(sum, deadline)
                       : communicator_.AllReduceSum(sum.data, sum.dtype, sum.count, deadline);
}

absl::StatusOr<Addends> Transformer::JoinSum(const Part& part, Deadline deadline) {
  if (is_alone()) return Addends();
  const Communicator::Sum sum = SumOf(part);
  if (part.is_aside) return communicator_.JoinSum(sum, deadline);
  return Addends(sum.data);
}

void Transformer::AddAndNorm(const Part& part, void* x, const Addends& delta, const void* weight,
                             void* out) {
  const int hidden = weights_.config.shape.hidden;
  backend_.RmsNorm({.x = At(x, part.begin * hidden * ElementSize(backend_.dtype())),
                    .delta = delta,
                    .weight = weight,
                    .out = out,
                    .dtype = backend_.dtype(),
                    .rows = part.count,
                    .hidden = hidden,
                    .eps = static_cast<float>(weights_.config.rms_norm_eps)});
}

absl::Status Transformer::FinishLayer(int layer, const void* attention, void* x, int64_t rows,
                                      Deadline deadline) {
  const ModelShape& shape = weights_.config.shape;
  const ShardPlan& shard = weights_.shard;
  const LayerWeights& w = weights_.layers[layer];
  const DType dtype = backend_.dtype();
  const int64_t element = ElementSize(dtype);
  const int64_t q_row = int64_t{shard.heads.q_count} * shape.head_dim;
  const Parts parts = Split(rows);
  for (const Part& part : parts) {
    backend_.Matmul(*w.o, {.x = At(attention, part.begin * q_row * element),
                           .out = Delta(part, x),
                           .rows = part.count,
                           .x_stride = q_row,
                           .out_dtype = dtype,
                           .accumulate = is_alone()});
    WINNOW_RETURN_IF_ERROR(BeginSum(part, deadline));
  }
  for (const Part& part : parts) {
    WINNOW_ASSIGN_OR_RETURN(const Addends delta, JoinSum(part, deadline));
    void* normed = At(normed_.data(), part.begin * shape.hidden * element);
    AddAndNorm(part, x, delta, w.post_attention_norm.data(), normed);
    void* mlp = At(mlp_.data(), part.begin * shard.mlp_count * element);
    backend_.GatedMatmul(*w.gate_up,
                         {.x = normed, .out = mlp, .rows = part.count, .x_stride = shape.hidden},
                         gated_workspace_.data());
    backend_.Matmul(*w.down, {.x = mlp,
                              .out = Delta(part, x),
                              .rows = part.count,
                              .x_stride = shard.mlp_count,
                              .out_dtype = dtype,
                              .accumulate = is_alone()});
    WINNOW_RETURN_IF_ERROR(BeginSum(part, deadline));
  }
  if (is_alone()) return absl::OkStatus();
  unfinished_ = parts;
  return layer + 1 == shape.num_layers ? Settle(x, deadline) : absl::OkStatus();
}

absl::Status Transformer::Settle(void* x, Deadline deadline) {
  for (const Part& part : std::exchange(unfinished_, {})) {
    WINNOW_ASSIGN_OR_RETURN(const Addends delta, JoinSum(part, deadline));
    AddAndNorm(part, x, delta, nullptr, nullptr);
  }
  return absl::OkStatus();
}

absl::Status Transformer::Logits(void* x, int64_t rows, float* logits, Deadline deadline) {
  const ModelShape& shape = weights_.config.shape;
  const int64_t shard_bytes = rows * weights_.shard.vocab_count * int64_t{sizeof(float)};
  const int ranks = communicator_.size();
  if (ranks > 1 && shard_bytes > static_cast<int64_t>(logits_shard_.bytes())) {
    return absl::InternalError(
        absl::StrCat("Logits: ", rows, " rows are more than the scratch memory was made for"));
  }
  backend_.RmsNorm({.x = x,
                    .weight = weights_.final_norm.data(),
                    .out = normed_.data(),
                    .dtype = backend_.dtype(),
                    .rows = rows,
                    .hidden = shape.hidden,
                    .eps = static_cast<float>(weights_.config.rms_norm_eps)});
  float* shard = ranks == 1 ? logits : logits_shard_.data<float>();
  backend_.Matmul(*weights_.lm_head, {.x = normed_.data(),
                                      .out = shard,
                                      .rows = rows,
                                      .x_stride = shape.hidden,
                                      .out_dtype = DType::kF32});
  if (ranks == 1) return absl::OkStatus();
  WINNOW_RETURN_IF_ERROR(
      communicator_.AllGather(shard, logits_gathered_.data(), shard_bytes, deadline));
  const int64_t part = weights_.shard.vocab_count;  // [rank][row][part] → [row][rank][part]
  for (int rank = 0; rank < ranks; ++rank) {
    for (int64_t row = 0; row < rows; ++row) {
      backend_.Copy(logits + (row * ranks + rank) * part,
                    logits_gathered_.data<float>() + (rank * rows + row) * part,
                    part * sizeof(float));
    }
  }
  return absl::OkStatus();
}

}  // namespace winnow
