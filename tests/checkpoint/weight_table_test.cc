#include "checkpoint/weight_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

namespace winnow {
namespace {

using ::testing::Contains;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::IsEmpty;
using ::testing::Not;

ModelConfig Config(const LayerSpec& layer = {}) {
  ModelConfig config;
  config.shape = {.num_layers = 2,
                  .hidden = 6,
                  .num_q_heads = 8,
                  .num_kv_heads = 4,
                  .head_dim = 2,
                  .intermediate = 20,
                  .vocab_size = 40,
                  .max_context = 100};
  config.layers.assign(2, layer);
  return config;
}

std::vector<TensorPart> Table(const ModelConfig& config, int ranks = 1, int rank = 0) {
  const auto shard = MakeShardPlan(config.shape, ranks, rank);
  EXPECT_TRUE(shard.ok()) << shard.status();
  return WeightTable(config, *shard);
}

std::vector<TensorPart> OfTarget(const std::vector<TensorPart>& table, WeightTarget target,
                                 int layer) {
  std::vector<TensorPart> parts;
  for (const TensorPart& part : table) {
    if (part.target == target && part.layer == layer) parts.push_back(part);
  }
  return parts;
}

TEST(WeightTableTest, NamesLlamasTensorsInTheOrderOfTheForwardPass) {
  std::vector<std::string> names;
  for (const TensorPart& part : Table(Config())) {
    if (part.layer != 1) names.push_back(part.name);
  }
  EXPECT_THAT(
      names, ElementsAre(
                 "model.embed_tokens.weight", "model.layers.0.input_layernorm.weight",
                 "model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.k_proj.weight",
                 "model.layers.0.self_attn.v_proj.weight", "model.layers.0.self_attn.o_proj.weight",
                 "model.layers.0.post_attention_layernorm.weight",
                 "model.layers.0.mlp.gate_proj.weight", "model.layers.0.mlp.up_proj.weight",
                 "model.layers.0.mlp.down_proj.weight", "model.norm.weight", "lm_head.weight"));
}

TEST(WeightTableTest, ALayerHasWhatItsSpecNames) {
  ModelConfig config = Config();
  config.layers[1].attention.qkv_bias = true;
  config.layers[1].attention.qk_norm = true;
  const std::vector<TensorPart> table = Table(config);
  for (const WeightTarget target :
       {WeightTarget::kQBias, WeightTarget::kKvBias, WeightTarget::kQNorm, WeightTarget::kKNorm}) {
    EXPECT_THAT(OfTarget(table, target, 0), IsEmpty());
    EXPECT_THAT(OfTarget(table, target, 1), Not(IsEmpty()));
    EXPECT_THAT(OfTarget(table, target, 1), Each(Field(&TensorPart::num_columns, 0)));
  }
}

TEST(WeightTableTest, ARankHoldsRowsOfProjectionsAndColumnsOfOutputs) {
  const std::vector<TensorPart> table = Table(Config({.attention = {.qkv_bias = true}}), 2, 1);
  const auto expect = [&](WeightTarget target, int layer, Range rows, Range columns) {
    const std::vector<TensorPart> parts = OfTarget(table, target, layer);
    EXPECT_THAT(parts, Not(IsEmpty()));
    EXPECT_THAT(parts, Each(Field(&TensorPart::rows, rows)));
    EXPECT_THAT(parts, Each(Field(&TensorPart::columns, columns)));
  };
  const Range hidden{0, 6};
  expect(WeightTarget::kEmbedding, -1, {20, 20}, hidden);
  expect(WeightTarget::kInputNorm, 0, hidden, {});
  expect(WeightTarget::kQ, 0, {8, 8}, hidden);
  expect(WeightTarget::kKv, 0, {4, 4}, hidden);
  expect(WeightTarget::kQBias, 0, {8, 8}, {});
  expect(WeightTarget::kKvBias, 0, {4, 4}, {});
  expect(WeightTarget::kO, 0, hidden, {8, 8});
  expect(WeightTarget::kGateUp, 1, {10, 10}, hidden);
  expect(WeightTarget::kDown, 1, hidden, {10, 10});
  expect(WeightTarget::kHead, -1, {20, 20}, hidden);
}

TEST(WeightTableTest, ATiedHeadIsTheEmbeddingOnceMore) {
  ModelConfig config = Config();
  config.tie_word_embeddings = true;
  const std::vector<TensorPart> table = Table(config);
  EXPECT_THAT(table, Not(Contains(Field(&TensorPart::name, "lm_head.weight"))));
  EXPECT_EQ(table.back().name, table.front().name);
  EXPECT_EQ(table.back().target, WeightTarget::kHead);
  EXPECT_EQ(NumWeights(config, *MakeShardPlan(config.shape, 1, 0)),
            NumWeights(Config(), *MakeShardPlan(config.shape, 1, 0)));
}

TEST(WeightTableTest, PartsOfATargetFollowEachOther) {
  const LayerSpec layer{.attention = {.qkv_bias = true, .qk_norm = true}};
  std::map<std::pair<int, WeightTarget>, int> runs;
  const TensorPart* last = nullptr;
  const std::vector<TensorPart> table = Table(Config(layer));
  for (const TensorPart& part : table) {
    const bool begins = last == nullptr || last->layer != part.layer || last->target != part.target;
    if (begins) ++runs[{part.layer, part.target}];
    last = &part;
  }
  EXPECT_THAT(runs, Each(Field(&std::pair<const std::pair<int, WeightTarget>, int>::second, 1)));
}

TEST(WeightTableTest, RanksTogetherHoldEveryElementOfAMatrixOnce) {
  for (const int ranks : {1, 2, 4}) {
    std::map<std::string, int64_t> held, whole;
    for (int rank = 0; rank < ranks; ++rank) {
      for (const TensorPart& part : Table(Config(), ranks, rank)) {
        if (part.is_vector()) continue;
        held[part.name] += part.num_elements();
        whole[part.name] = part.num_rows * part.num_columns;
      }
    }
    EXPECT_EQ(held, whole) << ranks;
  }
}

TEST(WeightTableTest, CountsWhatItLists) {
  // Of Llama: embedding and head, final norm; per layer two norms, q and o, k and v, the MLP.
  const int64_t llama = 2 * 40 * 6 + 6 + 2 * (2 * 6 + 2 * 16 * 6 + 2 * 8 * 6 + 3 * 20 * 6);
  const auto count = [](const LayerSpec& layer) {
    const ModelConfig config = Config(layer);
    return NumWeights(config, *MakeShardPlan(config.shape, 1, 0));
  };
  EXPECT_EQ(count({}), llama);
  EXPECT_EQ(count({.attention = {.qkv_bias = true}}), llama + 2 * (16 + 2 * 8));
  EXPECT_EQ(count({.attention = {.qk_norm = true}}), llama + 2 * (2 * 2));
}

}  // namespace
}  // namespace winnow
