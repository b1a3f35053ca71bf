#include "engine/tensor_parallel_decode.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "engine/sampler.h"

namespace winnow {

TensorParallelDecode::TensorParallelDecode(Options options)
    : options_(std::move(options)),
      shape_(options_.parts.ranks[0].weights->config.shape.WithContext(options_.max_context)) {}

absl::StatusOr<std::unique_ptr<TensorParallelDecode>> TensorParallelDecode::Create(
    Options options) {
  if (options.parts.ranks.empty() || options.max_batch < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("decode engine: needs a rank and a batch of at least 1, got ",
                     options.parts.ranks.size(), " ranks and ", options.max_batch));
  }
  auto engine = std::unique_ptr<TensorParallelDecode>(new TensorParallelDecode(std::move(options)));
  WINNOW_RETURN_IF_ERROR(engine->Allocate());
  return engine;
}

absl::Status TensorParallelDecode::Allocate() {
  const int64_t batch = options_.max_batch;
  constexpr int64_t kInt = sizeof(int32_t), kFloat = sizeof(float);
  const int64_t input_bytes = StepLayout{batch, shape_.num_layers}.size() * kInt;
  const int64_t table_bytes = batch * table_row() * kInt;
  const int64_t logits_bytes = batch * shape_.vocab_size * kFloat;
  row_handles_.assign(batch, 0);
  Backend& first = *options_.parts.ranks[0].backend;
  WINNOW_ASSIGN_OR_RETURN(inputs_, first.AllocateHost(input_bytes));
  WINNOW_ASSIGN_OR_RETURN(block_table_, first.AllocateHost(table_bytes));
  WINNOW_ASSIGN_OR_RETURN(logits_, first.AllocateHost(logits_bytes));
  WINNOW_ASSIGN_OR_RETURN(likeliest_, first.AllocateHost(batch * kInt));
  std::memset(block_table_.data(), 0, table_bytes);  // whole rows are copied
  for (const RankParts::Rank& rank : options_.parts.ranks) {
    RankState state;
    WINNOW_ASSIGN_OR_RETURN(
        state.transformer,
        Transformer::Create(*rank.weights, *rank.backend, *rank.communicator, batch, batch));
    WINNOW_ASSIGN_OR_RETURN(state.inputs, rank.backend->Allocate(input_bytes));
    WINNOW_ASSIGN_OR_RETURN(state.block_table, rank.backend->Allocate(table_bytes));
    WINNOW_ASSIGN_OR_RETURN(state.x, rank.backend->Allocate(batch * shape_.hidden *
                                                            ElementSize(rank.backend->dtype())));
    WINNOW_ASSIGN_OR_RETURN(state.logits, rank.backend->Allocate(logits_bytes));
    WINNOW_ASSIGN_OR_RETURN(state.likeliest, rank.backend->Allocate(batch * kInt));
    int64_t workspace_bytes = 0;
    for (int64_t rows = 1; rows <= batch; ++rows) {
      const auto params = Attention(static_cast<int>(ranks_.size()), rows);
      workspace_bytes = std::max(workspace_bytes, rank.backend->WorkspaceBytes(params));
    }
    WINNOW_ASSIGN_OR_RETURN(state.workspace, rank.backend->Allocate(workspace_bytes));
    // What was allocated is there once the queue has come to it.
    WINNOW_RETURN_IF_ERROR(rank.backend->Record()->Wait(*options_.clock, Deadline::Infinite()));
    rank.backend->ZeroNow(state.workspace.data(), workspace_bytes);
    ranks_.push_back(std::move(state));
  }
  return absl::OkStatus();
}

absl::Status TensorParallelDecode::Check(const DecodeStepItem& item,
                                         const PagedKv::Sequence* sequence) const {
  if (sequence == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("decode step: no KV is reserved under handle ", item.handle));
  }
  const bool in_model = item.token >= 0 && item.token < shape_.vocab_size && item.position >= 0 &&
                        item.position < shape_.max_context;
  if (!in_model) {
    return absl::InvalidArgumentError(
        absl::StrCat("decode step: token ", item.token, " at position ", item.position,
                     " is outside the vocabulary of ", shape_.vocab_size, " or the context of ",
                     shape_.max_context));
  }
  for (int layer = 0; layer < shape_.num_layers; ++layer) {
    const int64_t slot = sequence->plan.entries(layer) + item.entries_added;
    const auto blocks = static_cast<int64_t>(sequence->blocks[layer].size());
    if (item.entries_added >= 0 && slot < blocks * options_.kv->block_size() &&
        blocks <= max_blocks())
      continue;
    return absl::InvalidArgumentError(absl::StrCat("decode step: entry ", slot, " of layer ", layer,
                                                   " does not fit the ", blocks,
                                                   " blocks of handle ", item.handle));
  }
  return absl::OkStatus();
}

void TensorParallelDecode::FillTableRow(int64_t row, int64_t handle,
                                        const PagedKv::Sequence& sequence) {
  if (row_handles_[row] == handle) return;
  row_handles_[row] = handle;
  new_rows_.push_back(row);
  auto* ids = block_table_.data<int32_t>() + row * table_row();
  for (const std::vector<int32_t>& blocks : sequence.blocks) {
    std::copy(blocks.begin(), blocks.end(), ids);
    ids += max_blocks();
  }
}

absl::Status TensorParallelDecode::FillInputs(absl::Span<const DecodeStepItem> items) {
  std::vector<std::shared_ptr<const PagedKv::Sequence>> sequences;
  for (const DecodeStepItem& item : items) {
    sequences.push_back(options_.kv->Find(item.handle));
    WINNOW_RETURN_IF_ERROR(Check(item, sequences.back().get()));
  }
  step_ = {static_cast<int64_t>(items.size()), shape_.num_layers};
  new_rows_.clear();
  auto* inputs = inputs_.data<int32_t>();
  for (int64_t i = 0; i < step_.batch; ++i) {
    const DecodeStepItem& item = items[i];
    inputs[step_.ids() + i] = item.token;
    inputs[step_.positions() + i] = static_cast<int32_t>(item.position);
    for (int layer = 0; layer < shape_.num_layers; ++layer) {
      const int64_t slot = sequences[i]->plan.entries(layer) + item.entries_added;
      inputs[step_.slots(layer) + i] = static_cast<int32_t>(slot);
      inputs[step_.lengths(layer) + i] = static_cast<int32_t>(slot + 1);
    }
    FillTableRow(i, item.handle, *sequences[i]);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<int32_t>> TensorParallelDecode::Step(
    absl::Span<const DecodeStepItem> items) {
  const auto batch = static_cast<int64_t>(items.size());
  if (batch < 1 || batch > options_.max_batch) {
    return absl::InvalidArgumentError(absl::StrCat("decode step: the batch must be in [1, ",
                                                   options_.max_batch, "], got ", batch));
  }
  WINNOW_RETURN_IF_ERROR(FillInputs(items));
  const Deadline deadline = Deadline::After(*options_.clock, options_.step_timeout);
  const absl::Status status = options_.parts.group->Run(
      [&](int rank) { return RunRank(rank, items, deadline); },
      [&](const absl::Status& error) { options_.parts.ranks[0].communicator->Abort(error); });
  if (!status.ok()) {
    row_handles_.assign(row_handles_.size(), 0);  // some ranks may not have the new rows
    if (options_.parts.reset_communicators) options_.parts.reset_communicators();
    return status;
  }
  std::vector<int32_t> tokens(batch, kNoTokenWanted);
  for (int64_t i = 0; i < batch; ++i) {
    if (items[i].sampling == nullptr) continue;
    if (items[i].sampling->is_greedy()) {
      const int32_t best = likeliest_.data<int32_t>()[i];
      tokens[i] = best < 0 ? kLogitsNotFinite : best;
      continue;
    }
    const absl::Span<const float> logits(logits_.data<float>() + i * shape_.vocab_size,
                                         shape_.vocab_size);
    const absl::StatusOr<int32_t> drawn =
        SampleToken(logits, *items[i].sampling, items[i].sample_index);
    tokens[i] = drawn.ok() ? *drawn : kLogitsNotFinite;
  }
  return tokens;
}

absl::Status TensorParallelDecode::RunRank(int rank, absl::Span<const DecodeStepItem> items,
                                           Deadline deadline) {
  RankState& state = ranks_[rank];
  Backend& backend = *options_.parts.ranks[rank].backend;
  const int64_t row_bytes = table_row() * static_cast<int64_t>(sizeof(int32_t));
  for (const int64_t row : new_rows_) {
    backend.Copy(state.block_table.at(row * row_bytes), block_table_.at(row * row_bytes),
                 row_bytes);
  }
  const auto enqueue = [&] { return Enqueue(rank, deadline); };
  // A collective waits for its peers on the host, so that only a lone rank's step can be recorded.
  const bool is_alone = options_.parts.ranks.size() == 1;
  WINNOW_RETURN_IF_ERROR(is_alone ? backend.Replay(step_.batch, enqueue) : enqueue());
  if (rank == 0) {
    const int64_t logits_bytes = shape_.vocab_size * static_cast<int64_t>(sizeof(float));
    for (size_t i = 0; i < items.size(); ++i) {
      if (items[i].sampling == nullptr || items[i].sampling->is_greedy()) continue;
      const int64_t at = static_cast<int64_t>(i) * logits_bytes;
      backend.Copy(logits_.at(at), state.logits.at(at), logits_bytes);
    }
  }
  return backend.Record()->Wait(*options_.clock, deadline);
}

absl::Status TensorParallelDecode::Enqueue(int rank, Deadline deadline) {
  RankState& state = ranks_[rank];
  Backend& backend = *options_.parts.ranks[rank].backend;
  const int64_t batch = step_.batch;
  const auto* inputs = state.inputs.data<int32_t>();
  backend.Copy(state.inputs.data(), inputs_.data(), step_.size() * sizeof(int32_t));
  state.transformer->BeginStep();
  WINNOW_RETURN_IF_ERROR(
      state.transformer->Embed(inputs + step_.ids(), batch, state.x.data(), deadline));
  for (int layer = 0; layer < shape_.num_layers; ++layer) {
    WINNOW_RETURN_IF_ERROR(RunLayer(rank, layer, deadline));
  }
  WINNOW_RETURN_IF_ERROR(
      state.transformer->Logits(state.x.data(), batch, state.logits.data<float>(), deadline));
  if (rank == 0) {
    backend.ArgMax({.in = state.logits.data<float>(),
                    .out = state.likeliest.data<int32_t>(),
                    .rows = batch,
                    .width = shape_.vocab_size});
    backend.Copy(likeliest_.data(), state.likeliest.data(), batch * sizeof(int32_t));
  }
  return absl::OkStatus();
}

PagedAttentionParams TensorParallelDecode::Attention(int rank, int64_t batch) const {
  const HeadSplit& heads = options_.parts.ranks[rank].weights->shard.heads;
  const PagedKv& kv = *options_.kv;
  return {.k_blocks = kv.k_blocks(rank),
          .v_blocks = kv.v_blocks(rank),
          .dtype = options_.parts.ranks[rank].backend->dtype(),
          .batch = batch,
          .q_stride = int64_t{heads.q_count} * shape_.head_dim,
          .table_stride = table_row(),
          .block_size = kv.block_size(),
          .q_heads = heads.q_count,
          .kv_heads = heads.kv_count,
          .head_dim = shape_.head_dim};
}

absl::Status TensorParallelDecode::RunLayer(int rank, int layer, Deadline deadline) {
  RankState& state = ranks_[rank];
  Backend& backend = *options_.parts.ranks[rank].backend;
  const ModelWeights& weights = *options_.parts.ranks[rank].weights;
  const HeadSplit& heads = weights.shard.heads;
  const PagedKv& kv = *options_.kv;
  const int64_t batch = step_.batch;
  const auto* inputs = state.inputs.data<int32_t>();
  const int32_t* positions = inputs + step_.positions();
  const int32_t* table = state.block_table.data<int32_t>() + layer * max_blocks();

  WINNOW_ASSIGN_OR_RETURN(
      const Transformer::Input input,
      state.transformer->ProjectInput(
          {.layer = layer, .x = state.x.data(), .rows = batch, .positions = positions}, deadline));
  backend.PagedStoreKv({.kv = input.kv,
                        .positions = positions,
                        .inv_freq = weights.inv_freq.data<float>(),
                        .k_blocks = kv.k_blocks(rank),
                        .v_blocks = kv.v_blocks(rank),
                        .block_table = table,
                        .slots = inputs + step_.slots(layer),
                        .dtype = backend.dtype(),
                        .batch = batch,
                        .table_stride = table_row(),
                        .block_size = kv.block_size(),
                        .kv_heads = heads.kv_count,
                        .head_dim = shape_.head_dim,
                        .scale = state.transformer->rope_scale(),
                        .norm = state.transformer->key_norm(layer)});
  PagedAttentionParams attention = Attention(rank, batch);
  attention.q = input.q;
  attention.out = state.transformer->attention_out();
  attention.block_table = table;
  attention.lengths = inputs + step_.lengths(layer);
  backend.PagedAttention(attention, state.workspace.data());
  return state.transformer->FinishLayer(layer, state.transformer->attention_out(), state.x.data(),
                                        batch, deadline);
}

}  // namespace winnow
