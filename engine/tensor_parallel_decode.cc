#include "engine/tensor_parallel_decode.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "engine/sampler.h"

namespace winnow {
namespace {

ModelShape WithContext(ModelShape shape, int64_t max_context) {
  if (max_context > 0) shape.max_context = std::min(shape.max_context, max_context);
  return shape;
}

}  // namespace

TensorParallelDecode::TensorParallelDecode(Options options)
    : options_(std::move(options)),
      shape_(WithContext(options_.ranks[0].weights->config.shape, options_.max_context)) {}

absl::StatusOr<std::unique_ptr<TensorParallelDecode>> TensorParallelDecode::Create(
    Options options) {
  if (options.ranks.empty() || options.max_batch < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("decode engine: needs a rank and a batch of at least 1, got ",
                     options.ranks.size(), " ranks and ", options.max_batch));
  }
  auto engine = std::unique_ptr<TensorParallelDecode>(new TensorParallelDecode(std::move(options)));
  WINNOW_RETURN_IF_ERROR(engine->Allocate());
  return engine;
}

absl::Status TensorParallelDecode::Allocate() {
  const int64_t batch = options_.max_batch;
  const int64_t ints = batch * static_cast<int64_t>(sizeof(int32_t));
  Backend& first = *options_.ranks[0].backend;
  inputs_.max_blocks =
      (shape_.max_context + options_.kv->block_size() - 1) / options_.kv->block_size();
  WINNOW_ASSIGN_OR_RETURN(inputs_.ids, first.AllocateHost(ints));
  WINNOW_ASSIGN_OR_RETURN(inputs_.positions, first.AllocateHost(ints));
  WINNOW_ASSIGN_OR_RETURN(inputs_.lengths, first.AllocateHost(ints * shape_.num_layers));
  WINNOW_ASSIGN_OR_RETURN(inputs_.slots, first.AllocateHost(ints * shape_.num_layers));
  WINNOW_ASSIGN_OR_RETURN(inputs_.block_table,
                          first.AllocateHost(ints * shape_.num_layers * inputs_.max_blocks));
  WINNOW_ASSIGN_OR_RETURN(inputs_.logits,
                          first.AllocateHost(batch * shape_.vocab_size * sizeof(float)));
  for (const Rank& rank : options_.ranks) {
    RankState state;
    WINNOW_ASSIGN_OR_RETURN(
        state.transformer,
        Transformer::Create(*rank.weights, *rank.backend, *rank.communicator, batch, batch));
    WINNOW_ASSIGN_OR_RETURN(state.x, rank.backend->Allocate(batch * shape_.hidden *
                                                            ElementSize(rank.backend->dtype())));
    WINNOW_ASSIGN_OR_RETURN(state.logits,
                            rank.backend->Allocate(batch * shape_.vocab_size * sizeof(float)));
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
        blocks <= inputs_.max_blocks)
      continue;
    return absl::InvalidArgumentError(absl::StrCat("decode step: entry ", slot, " of layer ", layer,
                                                   " does not fit the ", blocks,
                                                   " blocks of handle ", item.handle));
  }
  return absl::OkStatus();
}

absl::Status TensorParallelDecode::FillInputs(absl::Span<const DecodeStepItem> items) {
  const auto batch = static_cast<int64_t>(items.size());
  for (int64_t i = 0; i < batch; ++i) {
    const DecodeStepItem& item = items[i];
    const std::shared_ptr<const PagedKv::Sequence> sequence = options_.kv->Find(item.handle);
    WINNOW_RETURN_IF_ERROR(Check(item, sequence.get()));
    inputs_.ids.data<int32_t>()[i] = item.token;
    inputs_.positions.data<int32_t>()[i] = static_cast<int32_t>(item.position);
    for (int layer = 0; layer < shape_.num_layers; ++layer) {
      const int64_t slot = sequence->plan.entries(layer) + item.entries_added;
      const int64_t at = layer * batch + i;
      inputs_.slots.data<int32_t>()[at] = static_cast<int32_t>(slot);
      inputs_.lengths.data<int32_t>()[at] = static_cast<int32_t>(slot + 1);
      const std::vector<int32_t>& blocks = sequence->blocks[layer];
      std::copy(blocks.begin(), blocks.end(),
                inputs_.block_table.data<int32_t>() + at * inputs_.max_blocks);
    }
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
  const absl::Status status = options_.group->Run(
      [&](int rank) { return RunRank(rank, batch, deadline); },
      [&](const absl::Status& error) { options_.ranks[0].communicator->Abort(error); });
  if (!status.ok()) {
    if (options_.reset_communicators) options_.reset_communicators();
    return status;
  }
  std::vector<int32_t> tokens(batch, -1);
  for (int64_t i = 0; i < batch; ++i) {
    if (items[i].sampling == nullptr) continue;
    const absl::Span<const float> logits(inputs_.logits.data<float>() + i * shape_.vocab_size,
                                         shape_.vocab_size);
    WINNOW_ASSIGN_OR_RETURN(tokens[i],
                            SampleToken(logits, *items[i].sampling, items[i].sample_index));
  }
  return tokens;
}

absl::Status TensorParallelDecode::RunRank(int rank, int64_t batch, Deadline deadline) {
  RankState& state = ranks_[rank];
  Backend& backend = *options_.ranks[rank].backend;
  WINNOW_RETURN_IF_ERROR(
      state.transformer->Embed(inputs_.ids.data<int32_t>(), batch, state.x.data(), deadline));
  for (int layer = 0; layer < shape_.num_layers; ++layer) {
    WINNOW_RETURN_IF_ERROR(RunLayer(rank, layer, batch, deadline));
  }
  WINNOW_RETURN_IF_ERROR(
      state.transformer->Logits(state.x.data(), batch, state.logits.data<float>(), deadline));
  if (rank == 0) {
    backend.Copy(inputs_.logits.data(), state.logits.data(),
                 batch * shape_.vocab_size * sizeof(float));
  }
  return backend.Record()->Wait(*options_.clock, deadline);
}

absl::Status TensorParallelDecode::RunLayer(int rank, int layer, int64_t batch, Deadline deadline) {
  RankState& state = ranks_[rank];
  Backend& backend = *options_.ranks[rank].backend;
  const ModelWeights& weights = *options_.ranks[rank].weights;
  const HeadSplit& heads = weights.shard.heads;
  const PagedKv& kv = *options_.kv;
  const auto* positions = inputs_.positions.data<int32_t>();
  const int32_t* table = inputs_.block_table.data<int32_t>() + layer * batch * inputs_.max_blocks;

  const void* normed = state.transformer->InputNorm(layer, state.x.data(), batch);
  backend.PagedStoreKv({.kv = state.transformer->ProjectKv(layer, normed, batch),
                        .positions = positions,
                        .inv_freq = weights.inv_freq.data<float>(),
                        .k_blocks = kv.k_blocks(rank),
                        .v_blocks = kv.v_blocks(rank),
                        .block_table = table,
                        .slots = inputs_.slots.data<int32_t>() + layer * batch,
                        .dtype = backend.dtype(),
                        .batch = batch,
                        .max_blocks = inputs_.max_blocks,
                        .block_size = kv.block_size(),
                        .kv_heads = heads.kv_count,
                        .head_dim = shape_.head_dim,
                        .scale = state.transformer->rope_scale(),
                        .norm = state.transformer->key_norm(layer)});
  backend.PagedAttention({.q = state.transformer->ProjectQ(layer, normed, positions, batch),
                          .k_blocks = kv.k_blocks(rank),
                          .v_blocks = kv.v_blocks(rank),
                          .out = state.transformer->attention_out(),
                          .block_table = table,
                          .lengths = inputs_.lengths.data<int32_t>() + layer * batch,
                          .dtype = backend.dtype(),
                          .batch = batch,
                          .q_stride = int64_t{heads.q_count} * shape_.head_dim,
                          .max_blocks = inputs_.max_blocks,
                          .block_size = kv.block_size(),
                          .q_heads = heads.q_count,
                          .kv_heads = heads.kv_count,
                          .head_dim = shape_.head_dim});
  return state.transformer->FinishLayer(layer, state.transformer->attention_out(), state.x.data(),
                                        batch, deadline);
}

}  // namespace winnow
