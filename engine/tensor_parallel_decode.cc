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
  const StepLayout largest{batch, shape_.num_layers, max_blocks_of_a_layer()};
  const int64_t bytes = largest.size() * static_cast<int64_t>(sizeof(int32_t));
  Backend& first = *options_.ranks[0].backend;
  WINNOW_ASSIGN_OR_RETURN(inputs_, first.AllocateHost(bytes));
  WINNOW_ASSIGN_OR_RETURN(logits_, first.AllocateHost(batch * shape_.vocab_size * sizeof(float)));
  for (const Rank& rank : options_.ranks) {
    RankState state;
    WINNOW_ASSIGN_OR_RETURN(
        state.transformer,
        Transformer::Create(*rank.weights, *rank.backend, *rank.communicator, batch, batch));
    WINNOW_ASSIGN_OR_RETURN(state.inputs, rank.backend->Allocate(bytes));
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
        blocks <= max_blocks_of_a_layer())
      continue;
    return absl::InvalidArgumentError(absl::StrCat("decode step: entry ", slot, " of layer ", layer,
                                                   " does not fit the ", blocks,
                                                   " blocks of handle ", item.handle));
  }
  return absl::OkStatus();
}

absl::Status TensorParallelDecode::FillInputs(absl::Span<const DecodeStepItem> items) {
  std::vector<std::shared_ptr<const PagedKv::Sequence>> sequences;
  step_ = {static_cast<int64_t>(items.size()), shape_.num_layers, 1};
  for (const DecodeStepItem& item : items) {
    sequences.push_back(options_.kv->Find(item.handle));
    WINNOW_RETURN_IF_ERROR(Check(item, sequences.back().get()));
    for (const std::vector<int32_t>& blocks : sequences.back()->blocks) {
      step_.max_blocks = std::max(step_.max_blocks, static_cast<int64_t>(blocks.size()));
    }
  }
  auto* inputs = inputs_.data<int32_t>();
  for (int64_t i = 0; i < step_.batch; ++i) {
    const DecodeStepItem& item = items[i];
    inputs[step_.ids() + i] = item.token;
    inputs[step_.positions() + i] = static_cast<int32_t>(item.position);
    for (int layer = 0; layer < shape_.num_layers; ++layer) {
      const int64_t slot = sequences[i]->plan.entries(layer) + item.entries_added;
      inputs[step_.slots(layer) + i] = static_cast<int32_t>(slot);
      inputs[step_.lengths(layer) + i] = static_cast<int32_t>(slot + 1);
      const std::vector<int32_t>& blocks = sequences[i]->blocks[layer];
      std::copy(blocks.begin(), blocks.end(), inputs + step_.table(layer) + i * step_.max_blocks);
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
      [&](int rank) { return RunRank(rank, deadline); },
      [&](const absl::Status& error) { options_.ranks[0].communicator->Abort(error); });
  if (!status.ok()) {
    if (options_.reset_communicators) options_.reset_communicators();
    return status;
  }
  std::vector<int32_t> tokens(batch, -1);
  for (int64_t i = 0; i < batch; ++i) {
    if (items[i].sampling == nullptr) continue;
    const absl::Span<const float> logits(logits_.data<float>() + i * shape_.vocab_size,
                                         shape_.vocab_size);
    WINNOW_ASSIGN_OR_RETURN(tokens[i],
                            SampleToken(logits, *items[i].sampling, items[i].sample_index));
  }
  return tokens;
}

absl::Status TensorParallelDecode::RunRank(int rank, Deadline deadline) {
  RankState& state = ranks_[rank];
  Backend& backend = *options_.ranks[rank].backend;
  const int64_t batch = step_.batch;
  const auto* inputs = state.inputs.data<int32_t>();
  backend.Copy(state.inputs.data(), inputs_.data(), step_.size() * sizeof(int32_t));
  WINNOW_RETURN_IF_ERROR(
      state.transformer->Embed(inputs + step_.ids(), batch, state.x.data(), deadline));
  for (int layer = 0; layer < shape_.num_layers; ++layer) {
    WINNOW_RETURN_IF_ERROR(RunLayer(rank, layer, deadline));
  }
  WINNOW_RETURN_IF_ERROR(
      state.transformer->Logits(state.x.data(), batch, state.logits.data<float>(), deadline));
  if (rank == 0) {
    backend.Copy(logits_.data(), state.logits.data(), batch * shape_.vocab_size * sizeof(float));
  }
  return backend.Record()->Wait(*options_.clock, deadline);
}

absl::Status TensorParallelDecode::RunLayer(int rank, int layer, Deadline deadline) {
  RankState& state = ranks_[rank];
  Backend& backend = *options_.ranks[rank].backend;
  const ModelWeights& weights = *options_.ranks[rank].weights;
  const HeadSplit& heads = weights.shard.heads;
  const PagedKv& kv = *options_.kv;
  const int64_t batch = step_.batch;
  const auto* inputs = state.inputs.data<int32_t>();
  const int32_t* positions = inputs + step_.positions();
  const int32_t* table = inputs + step_.table(layer);

  const void* normed = state.transformer->InputNorm(layer, state.x.data(), batch);
  backend.PagedStoreKv({.kv = state.transformer->ProjectKv(layer, normed, batch),
                        .positions = positions,
                        .inv_freq = weights.inv_freq.data<float>(),
                        .k_blocks = kv.k_blocks(rank),
                        .v_blocks = kv.v_blocks(rank),
                        .block_table = table,
                        .slots = inputs + step_.slots(layer),
                        .dtype = backend.dtype(),
                        .batch = batch,
                        .max_blocks = step_.max_blocks,
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
                          .lengths = inputs + step_.lengths(layer),
                          .dtype = backend.dtype(),
                          .batch = batch,
                          .q_stride = int64_t{heads.q_count} * shape_.head_dim,
                          .max_blocks = step_.max_blocks,
                          .block_size = kv.block_size(),
                          .q_heads = heads.q_count,
                          .kv_heads = heads.kv_count,
                          .head_dim = shape_.head_dim});
  return state.transformer->FinishLayer(layer, state.transformer->attention_out(), state.x.data(),
                                        batch, deadline);
}

}  // namespace winnow
