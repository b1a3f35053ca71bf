#include "engine/model/transformer.h"

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
  const int64_t row_bytes = t->hidden_bytes();
  WINNOW_ASSIGN_OR_RETURN(t->normed_, backend.Allocate(max_rows * row_bytes));
  WINNOW_ASSIGN_OR_RETURN(t->attention_, AttentionBlock::Create(weights, backend, max_rows));
  WINNOW_ASSIGN_OR_RETURN(t->feed_forward_, DenseFeedForward::Create(weights, backend, max_rows));
  if (communicator.size() > 1) {
    WINNOW_ASSIGN_OR_RETURN(t->delta_, backend.Allocate(max_rows * row_bytes));
    if (t->Split(max_rows).front().overlapped) {
      const int64_t part_bytes = (max_rows / 2 + kPartRows) * row_bytes;  // no part has more
      WINNOW_ASSIGN_OR_RETURN(t->inbox_,
                              backend.Allocate(2 * (communicator.size() - 1) * part_bytes));
    }
    const int64_t shard_bytes = max_logit_rows * weights.shard.vocab_count * int64_t{sizeof(float)};
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
  const void* norm = weights_.layers[params.layer].input_norm.data();
  const bool is_whole = unfinished_.empty();
  const Parts parts = is_whole ? Parts{{.count = params.rows}} : std::exchange(unfinished_, {});
  for (const Part& part : parts) {
    Addends delta;
    if (!is_whole) {
      WINNOW_ASSIGN_OR_RETURN(delta, JoinSum(part, deadline));
    }
    void* normed = normed_.at(part.begin * hidden_bytes());
    AddAndNorm(part, params.x, delta, norm, normed);
    const AttentionBlock::Rows rows = {.normed = normed,
                                       .positions = params.positions + part.begin,
                                       .begin = part.begin,
                                       .count = part.count};
    if (params.with_kv) attention_->ProjectKv(params.layer, rows, params.slots);
    if (params.with_q) attention_->ProjectQ(params.layer, rows);
  }
  return Input{normed_.data(), attention_->q(), attention_->kv()};
}

const void* Transformer::ProjectQ(int layer, const void* normed, const int32_t* positions,
                                  int64_t rows) {
  attention_->ProjectQ(layer, {.normed = normed, .positions = positions, .count = rows});
  return attention_->q();
}

Transformer::Parts Transformer::Split(int64_t rows) const {
  const int64_t first = rows / 2 / kPartRows * kPartRows;
  const bool splits =
      first > 0 && first * weights_.config.shape.hidden >= communicator_.min_overlap_elements();
  if (!splits || is_alone()) return {{.count = rows}};
  return {{.count = first, .overlapped = true},
          {.index = 1, .begin = first, .count = rows - first, .overlapped = true}};
}

void* Transformer::Delta(const Part& part, void* x) const {
  return At(is_alone() ? x : delta_.data(), part.begin * hidden_bytes());
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
  return part.overlapped ? communicator_.BeginSum(sum, deadline)
                         : communicator_.AllReduceSum(sum.data, sum.dtype, sum.count, deadline);
}

absl::StatusOr<Addends> Transformer::JoinSum(const Part& part, Deadline deadline) {
  if (is_alone()) return Addends();
  const Communicator::Sum sum = SumOf(part);
  if (part.overlapped) return communicator_.JoinSum(sum, deadline);
  return Addends(sum.data);
}

void Transformer::AddAndNorm(const Part& part, void* x, const Addends& delta, const void* weight,
                             void* out) {
  const int hidden = weights_.config.shape.hidden;
  backend_.RmsNorm({.x = At(x, part.begin * hidden_bytes()),
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
  const void* norm = weights_.layers[layer].post_attention_norm.data();
  const Parts parts = Split(rows);
  for (const Part& part : parts) {
    attention_->ProjectOutput({.layer = layer,
                               .attention = At(attention, part.begin * attention_->q_row_bytes()),
                               .rows = part.count,
                               .out = Delta(part, x),
                               .accumulate = is_alone()});
    WINNOW_RETURN_IF_ERROR(BeginSum(part, deadline));
  }
  for (const Part& part : parts) {
    WINNOW_ASSIGN_OR_RETURN(const Addends delta, JoinSum(part, deadline));
    void* normed = normed_.at(part.begin * hidden_bytes());
    AddAndNorm(part, x, delta, norm, normed);
    feed_forward_->Run({.layer = layer,
                        .normed = normed,
                        .row_begin = part.begin,
                        .rows = part.count,
                        .out = Delta(part, x),
                        .accumulate = is_alone()});
    WINNOW_RETURN_IF_ERROR(BeginSum(part, deadline));
  }
  if (is_alone()) return absl::OkStatus();
  unfinished_ = parts;
  const bool is_last = layer + 1 == weights_.config.shape.num_layers;
  return is_last ? Settle(x, deadline) : absl::OkStatus();
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
