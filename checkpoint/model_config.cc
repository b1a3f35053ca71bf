#include "checkpoint/model_config.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "checkpoint/config_fields.h"
#include "common/json_file.h"
#include "common/status_macros.h"

namespace winnow {
namespace {

using Json = nlohmann::json;

// A family of models: how its config.json names it, and what the file leaves unsaid of its layers.
// A row starts from Llama's and says what differs.
struct Family {
  const char* model_type;
  const char* architecture;
  LayerSpec layer;
  // The field counts. Qwen's files name a window that use_sliding_window switches off.
  bool has_window = true;
};
constexpr Family kFamilies[] = {
    {.model_type = "llama", .architecture = "LlamaForCausalLM"},
    {.model_type = "mistral", .architecture = "MistralForCausalLM"},
    {.model_type = "qwen2",
     .architecture = "Qwen2ForCausalLM",
     .layer = {.attention = {.qkv_bias = true}},
     .has_window = false},
    {.model_type = "qwen3",
     .architecture = "Qwen3ForCausalLM",
     .layer = {.attention = {.qk_norm = true}},
     .has_window = false},
    // Refused: experts are not computed.
    {.model_type = "mixtral",
     .architecture = "MixtralForCausalLM",
     .layer = {.feed_forward = {.kind = FeedForwardKind::kExperts}}},
    {.model_type = "qwen3_moe",
     .architecture = "Qwen3MoeForCausalLM",
     .layer = {.attention = {.qk_norm = true}, .feed_forward = {.kind = FeedForwardKind::kExperts}},
     .has_window = false},
};

absl::Status CheckArchitectures(const ConfigFields& fields, const Family& family) {
  const Json* architectures = fields.Get("architectures");
  if (architectures == nullptr || *architectures == Json::array({family.architecture})) {
    return absl::OkStatus();
  }
  return fields.Unsupported("architectures", *architectures,
                            absl::StrCat("[\"", family.architecture, "\"]").c_str());
}

absl::StatusOr<Family> ReadFamily(const ConfigFields& fields) {
  const Json* type = fields.Get("model_type");
  if (type == nullptr) return fields.Missing("model_type");
  for (const Family& family : kFamilies) {
    if (*type != family.model_type) continue;
    WINNOW_RETURN_IF_ERROR(CheckArchitectures(fields, family));
    return family;
  }
  std::string supported;
  for (const Family& family : kFamilies) {
    if (family.layer.feed_forward.kind == FeedForwardKind::kExperts) continue;
    absl::StrAppend(&supported, supported.empty() ? "'" : ", '", family.model_type, "'");
  }
  return fields.Unsupported("model_type", *type, absl::StrCat("one of ", supported).c_str());
}

// Refuses weights that the loader would otherwise silently misread.
absl::Status CheckNumberFormat(const ConfigFields& fields) {
  WINNOW_RETURN_IF_ERROR(fields.OneOf("torch_dtype", {"bfloat16", "float16", "float32"}));
  WINNOW_RETURN_IF_ERROR(fields.OneOf("dtype", {"bfloat16", "float16", "float32"}));
  if (const Json* value = fields.Get("quantization_config")) {
    return fields.Unsupported("quantization_config", *value, "absent");
  }
  return absl::OkStatus();
}

absl::Status ReadShape(const ConfigFields& fields, ModelShape* shape) {
  WINNOW_ASSIGN_OR_RETURN(shape->num_layers, fields.PositiveInt("num_hidden_layers"));
  WINNOW_ASSIGN_OR_RETURN(shape->hidden, fields.PositiveInt("hidden_size"));
  WINNOW_ASSIGN_OR_RETURN(shape->num_q_heads, fields.PositiveInt("num_attention_heads"));
  WINNOW_ASSIGN_OR_RETURN(shape->num_kv_heads,
                          fields.PositiveInt("num_key_value_heads", shape->num_q_heads));
  WINNOW_ASSIGN_OR_RETURN(shape->intermediate, fields.PositiveInt("intermediate_size"));
  WINNOW_ASSIGN_OR_RETURN(shape->vocab_size, fields.PositiveInt("vocab_size"));
  WINNOW_ASSIGN_OR_RETURN(shape->max_context, fields.Positive("max_position_embeddings"));
  if (fields.Get("head_dim") == nullptr && shape->hidden % shape->num_q_heads != 0) {
    return fields.Bad("hidden_size ", shape->hidden, " is not a multiple of num_attention_heads ",
                      shape->num_q_heads, " and there is no head_dim");
  }
  WINNOW_ASSIGN_OR_RETURN(shape->head_dim,
                          fields.PositiveInt("head_dim", shape->hidden / shape->num_q_heads));
  if (shape->num_q_heads % shape->num_kv_heads != 0) {
    return fields.Bad("num_attention_heads ", shape->num_q_heads,
                      " is not a multiple of num_key_value_heads ", shape->num_kv_heads);
  }
  if (shape->head_dim % 2 != 0)
    return fields.Bad("head_dim must be even for RoPE, got ", shape->head_dim);
  return absl::OkStatus();
}

// The longest text of which every layer sees all tokens. The engine attends to all of them, so that
// a prompt within the narrowest window is right, and a longer one is refused. YaRN's context is the
// stretched one.
int64_t MaxContext(const ModelConfig& config, int64_t max_positions) {
  int64_t context = max_positions;
  if (config.rope.type == RopeConfig::Type::kYarn) {
    const double stretched = static_cast<double>(config.rope.original_context) * config.rope.factor;
    context = std::max(context, static_cast<int64_t>(std::lround(stretched)));
  }
  for (const LayerSpec& layer : config.layers) {
    if (layer.attention.window > 0) context = std::min(context, layer.attention.window);
  }
  return context;
}

absl::StatusOr<int> ReadTokenId(const ConfigFields& fields, const char* field, const Json& value,
                                int vocab_size) {
  if (!value.is_number_unsigned() || value.get<uint64_t>() >= static_cast<uint64_t>(vocab_size)) {
    return fields.Unsupported(field, value, absl::StrCat("a token id below ", vocab_size).c_str());
  }
  return value.get<int>();
}

// eos_token_id is an integer or a list of them; empty when absent.
absl::StatusOr<std::vector<int>> ReadEosIds(const ConfigFields& fields, int vocab_size) {
  std::vector<int> ids;
  const Json* eos = fields.Get("eos_token_id");
  if (eos == nullptr) return ids;
  const Json list = eos->is_array() ? *eos : Json::array({*eos});
  for (const Json& value : list) {
    WINNOW_ASSIGN_OR_RETURN(const int id, ReadTokenId(fields, "eos_token_id", value, vocab_size));
    ids.push_back(id);
  }
  return ids;
}

// The special ids: generation_config.json, which is what generation is meant to use, goes before
// config.json.
absl::Status ReadTokenIds(const ConfigFields& fields, ModelConfig* config) {
  const int vocab_size = config->shape.vocab_size;
  WINNOW_ASSIGN_OR_RETURN(std::vector<int> eos, ReadEosIds(fields, vocab_size));
  if (!eos.empty()) config->eos_token_ids = std::move(eos);
  if (const Json* bos = fields.Get("bos_token_id")) {
    WINNOW_ASSIGN_OR_RETURN(config->bos_token_id,
                            ReadTokenId(fields, "bos_token_id", *bos, vocab_size));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelConfig> LoadModelConfig(const std::string& model_dir) {
  const std::filesystem::path dir(model_dir);
  const std::string path = (dir / "config.json").string();
  WINNOW_ASSIGN_OR_RETURN(Json json, ReadJsonObject(path));
  const ConfigFields fields(path, std::move(json));
  WINNOW_ASSIGN_OR_RETURN(const Family family, ReadFamily(fields));
  WINNOW_RETURN_IF_ERROR(CheckNumberFormat(fields));
  ModelConfig config;
  config.family = family.model_type;
  WINNOW_RETURN_IF_ERROR(ReadShape(fields, &config.shape));
  WINNOW_ASSIGN_OR_RETURN(config.layers,
                          ReadLayers(fields, family.layer, family.has_window, config.shape));
  WINNOW_ASSIGN_OR_RETURN(config.rms_norm_eps, fields.PositiveNumber("rms_norm_eps"));
  WINNOW_ASSIGN_OR_RETURN(config.rope, ReadRopeConfig(fields, config.shape.max_context));
  config.shape.max_context = MaxContext(config, config.shape.max_context);
  WINNOW_ASSIGN_OR_RETURN(config.tie_word_embeddings, fields.Bool("tie_word_embeddings"));
  WINNOW_RETURN_IF_ERROR(ReadTokenIds(fields, &config));

  const std::string generation_path = (dir / "generation_config.json").string();
  absl::StatusOr<Json> generation = ReadJsonObject(generation_path);
  if (generation.ok()) {
    WINNOW_RETURN_IF_ERROR(
        ReadTokenIds(ConfigFields(generation_path, *std::move(generation)), &config));
  } else if (generation.status().code() != absl::StatusCode::kNotFound) {
    return generation.status();
  }
  return config;
}

}  // namespace winnow
