#include "engine/model/weights.h"

#include <algorithm>
#include <cstring>

#include "common/status_macros.h"

namespace winnow {
namespace {

// Where the weight of a target is kept: one of the two. Packed weights are those of products.
struct Destination {
  Buffer* buffer = nullptr;
  std::unique_ptr<PackedWeight>* packed = nullptr;
};

Destination DestinationOf(WeightTarget target, int layer, ModelWeights& weights) {
  LayerWeights* l = layer < 0 ? nullptr : &weights.layers[layer];
  switch (target) {
    case WeightTarget::kEmbedding:
      return {.buffer = &weights.embedding};
    case WeightTarget::kInputNorm:
      return {.buffer = &l->input_norm};
    case WeightTarget::kQ:
      return {.packed = &l->attention.q};
    case WeightTarget::kKv:
      return {.packed = &l->attention.kv};
    case WeightTarget::kQBias:
      return {.buffer = &l->attention.q_bias};
    case WeightTarget::kKvBias:
      return {.buffer = &l->attention.kv_bias};
    case WeightTarget::kQNorm:
      return {.buffer = &l->attention.q_norm};
    case WeightTarget::kKNorm:
      return {.buffer = &l->attention.k_norm};
    case WeightTarget::kO:
      return {.packed = &l->attention.o};
    case WeightTarget::kPostAttentionNorm:
      return {.buffer = &l->post_attention_norm};
    case WeightTarget::kGateUp:
      return {.packed = &l->feed_forward.gate_up};
    case WeightTarget::kDown:
      return {.packed = &l->feed_forward.down};
    case WeightTarget::kFinalNorm:
      return {.buffer = &weights.final_norm};
    case WeightTarget::kHead:
      return {.packed = &weights.lm_head};
  }
  return {};
}

absl::StatusOr<Buffer> Upload(const void* data, size_t bytes, Backend& backend) {
  WINNOW_ASSIGN_OR_RETURN(Buffer host, backend.AllocateHost(bytes));
  std::memcpy(host.data(), data, bytes);
  WINNOW_ASSIGN_OR_RETURN(Buffer device, backend.Allocate(bytes));
  backend.Copy(device.data(), host.data(), bytes);
  RealClock clock;
  WINNOW_RETURN_IF_ERROR(backend.Record()->Wait(clock, Deadline::Infinite()));
  return device;
}

// Parts of one target, one under the other. REQUIRES: matrices have equal columns.
absl::Status Load(absl::Span<const TensorPart> parts, TensorSource& source, Backend& backend,
                  const Destination& destination) {
  const bool is_packed = destination.packed != nullptr;
  const DType dtype = is_packed ? backend.types().weights : backend.types().activations;
  std::vector<std::byte> host;
  int64_t rows = 0;
  for (const TensorPart& part : parts) {
    WINNOW_RETURN_IF_ERROR(source.Append(part, dtype, host));
    rows += part.rows.count;
  }
  if (!is_packed) {
    WINNOW_ASSIGN_OR_RETURN(*destination.buffer, Upload(host.data(), host.size(), backend));
    return absl::OkStatus();
  }
  const MatmulWeight weight = {host.data(), dtype, rows, parts.front().columns.count};
  WINNOW_ASSIGN_OR_RETURN(*destination.packed, backend.Pack(weight));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<ModelWeights>> LoadWeights(
    TensorSource& source, const ModelConfig& config, const ShardPlan& shard, Backend& backend,
    const std::function<void(int64_t)>& progress) {
  auto weights = std::make_unique<ModelWeights>();
  weights->config = config;
  weights->shard = shard;
  weights->layers.resize(config.shape.num_layers);
  const std::vector<TensorPart> table = WeightTable(config, shard);
  for (auto begin = table.begin(); begin != table.end();) {
    const auto end = std::find_if(begin, table.end(), [&](const TensorPart& part) {
      return part.target != begin->target || part.layer != begin->layer;
    });
    const Destination destination = DestinationOf(begin->target, begin->layer, *weights);
    WINNOW_RETURN_IF_ERROR(
        Load(absl::MakeConstSpan(&*begin, end - begin), source, backend, destination));
    if (progress) progress(source.bytes_read());
    begin = end;
  }
  const std::vector<float> inv_freq = RopeInverseFrequencies(config.rope, config.shape.head_dim);
  WINNOW_ASSIGN_OR_RETURN(weights->inv_freq,
                          Upload(inv_freq.data(), inv_freq.size() * sizeof(float), backend));
  return weights;
}

}  // namespace winnow
