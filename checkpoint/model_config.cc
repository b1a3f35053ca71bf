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

// What sets a family apart from Llama.
struct Family {
  const char* model_type;
  const char* architecture;
  bool qkv_bias = false;
  bool qk_norm = false;
  // The field counts. Qwen's files name a window that use_sliding_window switches off.
  bool sliding_window = true;
};
constexpr Family kFamilies[] = {
    {.model_type = "llama", .architecture = "LlamaForCausalLM"},
    {.model_type = "mistral", .architecture = "MistralForCausalLM"},
    {.model_type = "qwen2",
     .architecture = "Qwen2ForCausalLM",
     .qkv_bias = true,
     .sliding_window = false},
    {.model_type = "qwen3",
     .architecture = "Qwen3ForCausalLM",
     .qk_norm = true,
     .sliding_window = false},
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
  return fields.Unsupported("model_type", *type, "'llama', 'mistral', 'qwen2' or 'qwen3'");
}

// Refuses what the engine would otherwise silently compute differently.
absl::Status CheckVariants(const ConfigFields& fields) {
  WINNOW_RETURN_IF_ERROR(fields.OneOf("hidden_act", {"silu"}));
  WINNOW_RETURN_IF_ERROR(fields.OneOf("torch_dtype", {"bfloat16", "float16", "float32"}));
  WINNOW_RETURN_IF_ERROR(fields.OneOf("dtype", {"bfloat16", "float16", "float32"}));
  for (const char* field : {"attention_bias", "mlp_bias", "use_sliding_window"}) {
    WINNOW_ASSIGN_OR_RETURN(const bool on, fields.Bool(field));
    if (on) return fields.Unsupported(field, true, "false");
  }
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

// The tokens that the model can see at once: a prompt within a sliding window is not cut by it, and
// a longer one is refused. YaRN's context is the stretched one.
absl::StatusOr<int64_t> ReadMaxContext(const ConfigFields& fields, const Family& family,
                                       const RopeConfig& rope, int64_t max_positions) {
  int64_t context = max_positions;
  if (rope.type == RopeConfig::Type::kYarn) {
    const double stretched = static_cast<double>(rope.original_context) * rope.factor;
    context = std::max(context, static_cast<int64_t>(std::lround(stretched)));
  }
  if (family.sliding_window && fields.Get("sliding_window") != nullptr) {
    WINNOW_ASSIGN_OR_RETURN(const int64_t window, fields.Positive("sliding_window"));
    context = std::min(context, window);
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
  WINNOW_RETURN_IF_ERROR(CheckVariants(fields));
  ModelConfig config;
  config.family = family.model_type;
  config.qkv_bias = family.qkv_bias;
  config.qk_norm = family.qk_norm;
  WINNOW_RETURN_IF_ERROR(ReadShape(fields, &config.shape));
  WINNOW_ASSIGN_OR_RETURN(config.rms_norm_eps, fields.PositiveNumber("rms_norm_eps"));
  WINNOW_ASSIGN_OR_RETURN(config.rope, ReadRopeConfig(fields, config.shape.max_context));
  WINNOW_ASSIGN_OR_RETURN(config.shape.max_context,
                          ReadMaxContext(fields, family, config.rope, config.shape.max_context));
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
