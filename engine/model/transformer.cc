#include "engine/model/transformer.h"

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace winnow {
namespace {

constexpr int64_t kPartRows = 128;  // parts are whole tiles of a product

}  // namespace

absl::StatusOr<std::unique_ptr<Transformer>> Transformer::Create(const ModelWeights& weights,
                                                                 Backend& backend,
                                                                 Communicator& communicator,
                                                                 int64_t max_rows,
                                                                 int64_t max_logit_rows) {
  auto t = std::unique_ptr<Transformer>(new Transformer(weights, backend, communicator, max_rows));
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
    const int64_t shard_bytes = max_logit_rows * shard.vocab_count * int64_t{sizeof(float)};
    WINNOW_ASSIGN_OR_RETURN(t->logits_shard_, backend.Allocate(shard_bytes));
    WINNOW_ASSIGN_OR_RETURN(t->logits_gathered_,
                            backend.Allocate(shard_bytes * communicator.size()));
  }
  return t;
}

absl::Status Transformer::ReduceRows(void* delta, int64_t rows, Deadline deadline) {
  if (communicator_.size() == 1) return absl::OkStatus();
  return communicator_.AllReduceSum(delta, backend_.dtype(), rows * weights_.config.shape.hidden,
                                    deadline);
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
  return ReduceRows(x, rows, deadline);  // all but one shard add zeros: exact
}

const void* Transformer::InputNorm(int layer, void* x, int64_t rows) {
  backend_.RmsNorm({.x = x,
                    .weight = weights_.layers[layer].input_norm.data(),
                    .out = normed_.data(),
                    .dtype = backend_.dtype(),
                    .rows = rows,
                    .hidden = weights_.config.shape.hidden,
                    .eps = static_cast<float>(weights_.config.rms_norm_eps)});
  return normed_.data();
}

const void* Transformer::ProjectQ(int layer, const void* normed, const int32_t* positions,
                                  int64_t rows) {
  const ModelShape& shape = weights_.config.shape;
  const int heads = weights_.shard.heads.q_count;
  backend_.Matmul(*weights_.layers[layer].q, {.x = normed,
                                              .out = q_.data(),
                                              .rows = rows,
                                              .x_stride = shape.hidden,
                                              .out_dtype = backend_.dtype(),
                                              .bias = weights_.layers[layer].q_bias.data()});
  backend_.Rope({.x = q_.data(),
                 .positions = positions,
                 .inv_freq = weights_.inv_freq.data<float>(),
                 .dtype = backend_.dtype(),
                 .rows = rows,
                 .x_stride = int64_t{heads} * shape.head_dim,
                 .heads = heads,
                 .head_dim = shape.head_dim,
                 .scale = rope_scale(),
                 .norm = Norm(weights_.layers[layer].q_norm)});
  return q_.data();
}

const void* Transformer::ProjectKv(int layer, const void* normed, int64_t rows) {
  backend_.Matmul(*weights_.layers[layer].kv, {.x = normed,
                                               .out = kv_.data(),
                                               .rows = rows,
                                               .x_stride = weights_.config.shape.hidden,
                                               .out_dtype = backend_.dtype(),
                                               .bias = weights_.layers[layer].kv_bias.data()});
  return kv_.data();
}

absl::InlinedVector<Transformer::Rows, 2> Transformer::Parts(int64_t rows) const {
  const int64_t first = rows / 2 / kPartRows * kPartRows;
  const bool splits = first > 0 && communicator_.size() > 1 &&
                      first * weights_.config.shape.hidden >= communicator_.least_aside();
  if (!splits) return {{0, rows}};
  return {{0, first}, {first, rows - first}};
}

// With several ranks, each part of the rows computes while the sums of the other are on their way.
absl::Status Transformer::FinishLayer(int layer, const void* attention, void* x, int64_t rows,
                                      Deadline deadline) {
  const ModelShape& shape = weights_.config.shape;
  const ShardPlan& shard = weights_.shard;
  const LayerWeights& w = weights_.layers[layer];
  const DType dtype = backend_.dtype();
  const int64_t element = ElementSize(dtype);
  const int64_t q_row = int64_t{shard.heads.q_count} * shape.head_dim;
  // One rank's products are the whole sum and go straight into the residual stream.
  const bool is_alone = communicator_.size() == 1;
  const auto at = [](const void* data, int64_t bytes) {
    return const_cast<std::byte*>(static_cast<const std::byte*>(data)) + bytes;
  };
  const auto delta = [&](const Rows& part) {
    return at(is_alone ? x : delta_.data(), part.begin * shape.hidden * element);
  };
  const absl::InlinedVector<Rows, 2> parts = Parts(rows);
  const auto reduce = [&](const Rows& part) {
    if (parts.size() == 1) return ReduceRows(delta(part), part.count, deadline);
    return communicator_.BeginAllReduceSum(delta(part), dtype, part.count * shape.hidden, deadline);
  };
  const auto join = [&] {
    if (parts.size() > 1) communicator_.JoinAllReduceSum();
  };
  const auto add_and_norm = [&](const Rows& part, void* out) {
    backend_.RmsNorm({.x = at(x, part.begin * shape.hidden * element),
                      .delta = is_alone ? nullptr : delta(part),
                      .weight = w.post_attention_norm.data(),
                      .out = out,
                      .dtype = dtype,
                      .rows = part.count,
                      .hidden = shape.hidden,
                      .eps = static_cast<float>(weights_.config.rms_norm_eps)});
  };

  for (const Rows& part : parts) {
    backend_.Matmul(*w.o, {.x = at(attention, part.begin * q_row * element),
                           .out = delta(part),
                           .rows = part.count,
                           .x_stride = q_row,
                           .out_dtype = dtype,
                           .accumulate = is_alone});
    WINNOW_RETURN_IF_ERROR(reduce(part));
  }
  for (const Rows& part : parts) {
    join();
    void* normed = at(normed_.data(), part.begin * shape.hidden * element);
    add_and_norm(part, normed);
    void* mlp = at(mlp_.data(), part.begin * shard.mlp_count * element);
    backend_.GatedMatmul(*w.gate_up,
                         {.x = normed, .out = mlp, .rows = part.count, .x_stride = shape.hidden},
                         gated_workspace_.data());
    backend_.Matmul(*w.down, {.x = mlp,
                              .out = delta(part),
                              .rows = part.count,
                              .x_stride = shard.mlp_count,
                              .out_dtype = dtype,
                              .accumulate = is_alone});
    WINNOW_RETURN_IF_ERROR(reduce(part));
  }
  if (is_alone) return absl::OkStatus();
  for (const Rows& part : parts) {
    join();
    add_and_norm(part, nullptr);  // only the add
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
