#include "checkpoint/weight_table.h"

#include "absl/strings/str_cat.h"

namespace winnow {
namespace {

// What a side of a tensor counts, which says how long the side is and which part of it a rank
// holds: this is the shard rule.
enum class Side {
  kNone,  // a vector's second side
  kHidden,
  kHeadDim,
  kQueries,    // query heads · head_dim
  kKeyValues,  // KV heads · head_dim
  kIntermediate,
  kVocabulary,
};

// A tensor of the checkpoint: [rows][columns].
struct Tensor {
  const char* name;  // behind the layer's prefix, if it is of a layer
  Side rows, columns;
  WeightTarget target;
  bool (*is_in)(const LayerSpec&) = nullptr;  // null: in every layer
};

bool HasQkvBias(const LayerSpec& layer) { return layer.attention.qkv_bias; }
bool HasQkNorm(const LayerSpec& layer) { return layer.attention.qk_norm; }

constexpr Tensor kEmbedding = {"model.embed_tokens.weight", Side::kVocabulary, Side::kHidden,
                               WeightTarget::kEmbedding};
constexpr Tensor kFinalNorm = {"model.norm.weight", Side::kHidden, Side::kNone,
                               WeightTarget::kFinalNorm};
constexpr Tensor kHead = {"lm_head.weight", Side::kVocabulary, Side::kHidden, WeightTarget::kHead};
constexpr Tensor kTiedHead = {kEmbedding.name, kEmbedding.rows, kEmbedding.columns,
                              WeightTarget::kHead};

constexpr Tensor kLayer[] = {
    {"input_layernorm.weight", Side::kHidden, Side::kNone, WeightTarget::kInputNorm},
    {"self_attn.q_proj.weight", Side::kQueries, Side::kHidden, WeightTarget::kQ},
    {"self_attn.k_proj.weight", Side::kKeyValues, Side::kHidden, WeightTarget::kKv},
    {"self_attn.v_proj.weight", Side::kKeyValues, Side::kHidden, WeightTarget::kKv},
    {"self_attn.q_proj.bias", Side::kQueries, Side::kNone, WeightTarget::kQBias, HasQkvBias},
    {"self_attn.k_proj.bias", Side::kKeyValues, Side::kNone, WeightTarget::kKvBias, HasQkvBias},
    {"self_attn.v_proj.bias", Side::kKeyValues, Side::kNone, WeightTarget::kKvBias, HasQkvBias},
    {"self_attn.q_norm.weight", Side::kHeadDim, Side::kNone, WeightTarget::kQNorm, HasQkNorm},
    {"self_attn.k_norm.weight", Side::kHeadDim, Side::kNone, WeightTarget::kKNorm, HasQkNorm},
    {"self_attn.o_proj.weight", Side::kHidden, Side::kQueries, WeightTarget::kO},
    {"post_attention_layernorm.weight", Side::kHidden, Side::kNone,
     WeightTarget::kPostAttentionNorm},
    {"mlp.gate_proj.weight", Side::kIntermediate, Side::kHidden, WeightTarget::kGateUp},
    {"mlp.up_proj.weight", Side::kIntermediate, Side::kHidden, WeightTarget::kGateUp},
    {"mlp.down_proj.weight", Side::kHidden, Side::kIntermediate, WeightTarget::kDown},
};

struct Extent {
  int64_t size = 0;
  Range part;
};

Extent Whole(int64_t size) { return {size, {0, size}}; }

Extent ExtentOf(Side side, const ModelShape& shape, const ShardPlan& shard) {
  const int64_t d = shape.head_dim;
  const HeadSplit& heads = shard.heads;
  switch (side) {
    case Side::kNone:
      return {};
    case Side::kHidden:
      return Whole(shape.hidden);
    case Side::kHeadDim:
      return Whole(d);
    case Side::kQueries:
      return {shape.num_q_heads * d, {heads.q_begin * d, heads.q_count * d}};
    case Side::kKeyValues:
      return {shape.num_kv_heads * d, {heads.kv_begin * d, heads.kv_count * d}};
    case Side::kIntermediate:
      return {shape.intermediate, {shard.mlp_begin, shard.mlp_count}};
    case Side::kVocabulary:
      return {shape.vocab_size, {shard.vocab_begin, shard.vocab_count}};
  }
  return {};
}

TensorPart PartOf(const Tensor& tensor, const std::string& prefix, int layer,
                  const ModelShape& shape, const ShardPlan& shard) {
  const Extent rows = ExtentOf(tensor.rows, shape, shard);
  const Extent columns = ExtentOf(tensor.columns, shape, shard);
  return {.name = absl::StrCat(prefix, tensor.name),
          .num_rows = rows.size,
          .num_columns = columns.size,
          .rows = rows.part,
          .columns = columns.part,
          .target = tensor.target,
          .layer = layer};
}

}  // namespace

std::vector<TensorPart> WeightTable(const ModelConfig& config, const ShardPlan& shard) {
  std::vector<TensorPart> table;
  const auto add = [&](const Tensor& tensor, const std::string& prefix = "", int layer = -1) {
    table.push_back(PartOf(tensor, prefix, layer, config.shape, shard));
  };
  add(kEmbedding);
  for (int layer = 0; layer < config.shape.num_layers; ++layer) {
    const std::string prefix = absl::StrCat("model.layers.", layer, ".");
    for (const Tensor& tensor : kLayer) {
      if (tensor.is_in == nullptr || tensor.is_in(config.layers[layer])) add(tensor, prefix, layer);
    }
  }
  add(kFinalNorm);
  add(config.tie_word_embeddings ? kTiedHead : kHead);
  return table;
}

int64_t NumWeights(const ModelConfig& config, const ShardPlan& shard) {
  int64_t weights = 0;
  for (const TensorPart& part : WeightTable(config, shard)) weights += part.num_elements();
  return weights;
}

}  // namespace winnow
