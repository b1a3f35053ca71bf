#include "checkpoint/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "nlohmann/json.hpp"
#include "tests/checkpoint/temp_folder.h"
#include "tests/testing/demo_shape.h"

namespace winnow {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Json = nlohmann::json;

Json Valid() {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"model_type", "llama"},
          {"vocab_size", 1000},
          {"hidden_size", 64},
          {"intermediate_size", 96},
          {"num_hidden_layers", 3},
          {"num_attention_heads", 8},
          {"num_key_value_heads", 2},
          {"head_dim", 16},
          {"hidden_act", "silu"},
          {"rms_norm_eps", 1e-6},
          {"rope_theta", 500000.0},
          {"rope_scaling", nullptr},
          {"max_position_embeddings", 4096},
          {"tie_word_embeddings", true},
          {"bos_token_id", 1},
          {"eos_token_id", 2},
          {"torch_dtype", "bfloat16"}};
}

absl::StatusOr<ModelConfig> Load(const Json& config, const Json& generation = nullptr) {
  const TempFolder folder;
  folder.Write("config.json", config.dump());
  if (!generation.is_null()) folder.Write("generation_config.json", generation.dump());
  return LoadModelConfig(folder.path());
}

TEST(ModelConfigTest, ReadsTheDemoModel) {
  const auto config = LoadModelConfig(WINNOW_SOURCE_DIR "/models/demo");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->family, "llama");
  EXPECT_EQ(config->shape, DemoShape());
  EXPECT_EQ(config->rms_norm_eps, 1e-5);
  EXPECT_EQ(config->rope.theta, 500000.0);
  EXPECT_TRUE(config->tie_word_embeddings);
  EXPECT_THAT(config->eos_token_ids, ElementsAre(4091, 4094));
  EXPECT_EQ(config->bos_token_id, 4090);
}

TEST(ModelConfigTest, ReadsNewerFieldNames) {
  Json json = Valid();
  json.erase("rope_theta");
  json.erase("rope_scaling");
  json.erase("torch_dtype");
  json["dtype"] = "float32";
  json["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 250000.0}};
  const auto config = Load(json);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->rope.theta, 250000.0);
}

TEST(ModelConfigTest, FillsWhatOldFoldersLeaveOut) {
  Json json = Valid();
  for (const char* field :
       {"rope_theta", "rope_scaling", "num_key_value_heads", "head_dim", "tie_word_embeddings",
        "bos_token_id", "eos_token_id", "torch_dtype", "architectures", "hidden_act"}) {
    json.erase(field);
  }
  const auto config = Load(json);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->rope.theta, 10000.0);
  EXPECT_EQ(config->shape.num_kv_heads, 8);
  EXPECT_EQ(config->shape.head_dim, 8);
  EXPECT_FALSE(config->tie_word_embeddings);
  EXPECT_THAT(config->eos_token_ids, IsEmpty());
  EXPECT_EQ(config->bos_token_id, -1);
}

TEST(ModelConfigTest, GenerationConfigDecidesTheEndTokens) {
  EXPECT_THAT(Load(Valid())->eos_token_ids, ElementsAre(2));
  EXPECT_THAT(Load(Valid(), {{"eos_token_id", {7, 8}}})->eos_token_ids, ElementsAre(7, 8));
  EXPECT_THAT(Load(Valid(), {{"eos_token_id", 9}})->eos_token_ids, ElementsAre(9));
  EXPECT_THAT(Load(Valid(), {{"do_sample", false}})->eos_token_ids, ElementsAre(2));
}

TEST(ModelConfigTest, AcceptsDefaultRopeScaling) {
  Json json = Valid();
  json["rope_scaling"] = {{"type", "default"}};
  EXPECT_TRUE(Load(json).ok());
}

TEST(ModelConfigTest, NamesEveryMissingField) {
  for (const char* field :
       {"model_type", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
        "num_attention_heads", "rms_norm_eps", "max_position_embeddings"}) {
    Json json = Valid();
    json.erase(field);
    const absl::Status status = Load(json).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << field;
    EXPECT_THAT(
        std::string(status.message()),
        AllOf(HasSubstr("config.json"), HasSubstr(std::string("'") + field + "' is missing")));
  }
}

TEST(ModelConfigTest, RefusesWhatTheEngineWouldComputeDifferently) {
  const std::vector<std::pair<std::string, Json>> cases = {
      {"model_type", "gemma3"},
      {"architectures", {"LlamaForSequenceClassification"}},
      {"architectures", {"MistralForCausalLM"}},
      {"hidden_act", "gelu"},
      {"attention_bias", true},
      {"mlp_bias", true},
      {"quantization_config", {{"quant_method", "fp8"}}},
      {"sliding_window", "wide"},
      {"use_sliding_window", true},
      {"partial_rotary_factor", 0.5},
      {"num_local_experts", 8},
      {"num_experts", 128},
      {"n_routed_experts", 256},
      {"rope_scaling", "yarn"},
      {"rope_theta", -1.0},
      {"rope_theta", "10000"},
      {"torch_dtype", "int8"},
      {"dtype", "float8_e4m3fn"},
      {"num_hidden_layers", 0},
      {"num_hidden_layers", -3},
      {"num_hidden_layers", 3.5},
      {"hidden_size", 5'000'000'000},
      {"num_key_value_heads", 3},
      {"head_dim", 15},
      {"rms_norm_eps", "small"},
      {"tie_word_embeddings", "yes"},
      {"eos_token_id", 1000},
      {"eos_token_id", Json::array({2, "end"})},
      {"bos_token_id", -1},
  };
  for (const auto& [field, value] : cases) {
    Json json = Valid();
    json[field] = value;
    const absl::Status status = Load(json).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << field << " = " << value;
    EXPECT_THAT(std::string(status.message()), HasSubstr(field));
  }
}

TEST(ModelConfigTest, RefusesAHiddenSizeThatTheHeadsDoNotDivide) {
  Json json = Valid();
  json.erase("head_dim");
  json["hidden_size"] = 65;
  EXPECT_THAT(std::string(Load(json).status().message()),
              HasSubstr("hidden_size 65 is not a multiple"));
}

TEST(ModelConfigTest, RefusesFilesThatAreAbsentOrNotJson) {
  const TempFolder folder;
  EXPECT_EQ(LoadModelConfig(folder.path()).status().code(), absl::StatusCode::kNotFound);
  folder.Write("config.json", "{\"model_type\": ");
  EXPECT_THAT(std::string(LoadModelConfig(folder.path()).status().message()),
              HasSubstr("config.json: not valid JSON"));
  folder.Write("config.json", "[]");
  EXPECT_THAT(std::string(LoadModelConfig(folder.path()).status().message()),
              HasSubstr("expected a JSON object"));
  folder.Write("config.json", Valid().dump());
  folder.Write("generation_config.json", "nope");
  EXPECT_THAT(std::string(LoadModelConfig(folder.path()).status().message()),
              HasSubstr("generation_config.json: not valid JSON"));
}

TEST(ModelConfigTest, KnowsWhatSetsTheFamiliesApart) {
  struct Row {
    const char* type;
    const char* architecture;
    bool bias, norm;
  };
  for (const auto& [type, architecture, bias, norm] :
       {Row{"llama", "LlamaForCausalLM", false, false},
        Row{"mistral", "MistralForCausalLM", false, false},
        Row{"qwen2", "Qwen2ForCausalLM", true, false},
        Row{"qwen3", "Qwen3ForCausalLM", false, true}}) {
    Json json = Valid();
    json["model_type"] = type;
    json["architectures"] = Json::array({architecture});
    const auto config = Load(json);
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_EQ(config->family, type);
    const LayerSpec layer{.attention = {.rotary_dims = 16,
                                        .qkv_bias = bias,
                                        .qk_norm = norm}};  // the rest is Llama's
    EXPECT_THAT(config->layers, ElementsAre(layer, layer, layer)) << type;
  }
}

TEST(ModelConfigTest, RefusesExpertsByName) {
  for (const auto& [type, architecture] : {std::pair("mixtral", "MixtralForCausalLM"),
                                           std::pair("qwen3_moe", "Qwen3MoeForCausalLM")}) {
    Json json = Valid();
    json["model_type"] = type;
    json["architectures"] = Json::array({architecture});
    const absl::Status status = Load(json).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr(type), HasSubstr("experts are not supported")));
  }
}

TEST(ModelConfigTest, NamesTheSupportedFamilies) {
  Json json = Valid();
  json["model_type"] = "gemma3";
  EXPECT_THAT(std::string(Load(json).status().message()),
              HasSubstr("must be one of 'llama', 'mistral', 'qwen2', 'qwen3', got \"gemma3\""));
}

TEST(ModelConfigTest, WhatSaysNoExpertsIsDense) {
  Json json = Valid();
  json["num_experts"] = 0;
  json["num_local_experts"] = nullptr;
  json["partial_rotary_factor"] = 1.0;
  EXPECT_TRUE(Load(json).ok()) << Load(json).status();
}

TEST(ModelConfigTest, ASlidingWindowIsOfEveryLayer) {
  Json json = Valid();
  EXPECT_EQ(Load(json)->layers[0].attention.window, 0);
  json["sliding_window"] = 1024;
  const auto config = Load(json);
  ASSERT_TRUE(config.ok()) << config.status();
  for (const LayerSpec& layer : config->layers) EXPECT_EQ(layer.attention.window, 1024);
}

TEST(ModelConfigTest, ASlidingWindowBoundsTheContext) {
  Json json = Valid();
  json["model_type"] = "mistral";
  json["architectures"] = {"MistralForCausalLM"};
  json["sliding_window"] = 1024;
  EXPECT_EQ(Load(json)->shape.max_context, 1024);
  json["sliding_window"] = 8192;
  EXPECT_EQ(Load(json)->shape.max_context, 4096);
  json["sliding_window"] = nullptr;
  EXPECT_EQ(Load(json)->shape.max_context, 4096);
  // Qwen's files name a window that is off.
  json["model_type"] = "qwen2";
  json["architectures"] = {"Qwen2ForCausalLM"};
  json["sliding_window"] = 1024;
  json["use_sliding_window"] = false;
  EXPECT_EQ(Load(json)->shape.max_context, 4096);
}

TEST(ModelConfigTest, YarnStretchesTheContext) {
  Json json = Valid();
  json["rope_scaling"] = {{"type", "yarn"}, {"factor", 4.0}};
  EXPECT_EQ(Load(json)->shape.max_context, 16384);
  json["rope_scaling"]["original_max_position_embeddings"] = 512;
  EXPECT_EQ(Load(json)->shape.max_context, 4096);
}

}  // namespace
}  // namespace winnow
