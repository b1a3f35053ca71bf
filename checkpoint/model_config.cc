#include "checkpoint/model_config.h"

#include <cmath>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "checkpoint/json_file.h"
#include "common/status_macros.h"
#include "nlohmann/json.hpp"

namespace winnow {
namespace {

using Json = nlohmann::json;

// One config file and its fields; every error names file, field and value. A null counts as absent.
class Fields {
 public:
  Fields(std::string path, Json json) : path_(std::move(path)), json_(std::move(json)) {}

  const Json* Get(const char* field) const {
    const auto it = json_.find(field);
    return it == json_.end() || it->is_null() ? nullptr : &*it;
  }
  template <typename... Parts>
  absl::Status Bad(const Parts&... parts) const {
    return absl::InvalidArgumentError(absl::StrCat(path_, ": ", parts...));
  }
  absl::Status Missing(const char* field) const { return Bad("field '", field, "' is missing"); }
  absl::Status Unsupported(const char* field, const Json& got, const char* expected) const {
    return Bad("field '", field, "' must be ", expected, ", got ", got.dump());
  }

  // A positive integer; `fallback` when absent, if it is one itself.
  absl::StatusOr<int64_t> Positive(const char* field, int64_t fallback = 0) const {
    constexpr int64_t kMost = 1 << 30;
    const Json* value = Get(field);
    if (value == nullptr) {
      if (fallback > 0) return fallback;
      return Missing(field);
    }
    if (!value->is_number_unsigned() || *value == 0 || value->get<uint64_t>() > kMost) {
      return Unsupported(field, *value, "an integer in [1, 2^30]");
    }
    return value->get<int64_t>();
  }
  absl::StatusOr<int> PositiveInt(const char* field, int fallback = 0) const {
    WINNOW_ASSIGN_OR_RETURN(const int64_t value, Positive(field, fallback));
    return static_cast<int>(value);
  }
  absl::StatusOr<bool> Bool(const char* field) const {
    const Json* value = Get(field);
    if (value == nullptr) return false;
    if (!value->is_boolean()) return Unsupported(field, *value, "true or false");
    return value->get<bool>();
  }
  absl::Status OneOf(const char* field, std::initializer_list<const char*> allowed) const {
    const Json* value = Get(field);
    if (value == nullptr) return absl::OkStatus();
    std::string list;
    for (const char* name : allowed) {
      if (value->is_string() && *value == name) return absl::OkStatus();
      absl::StrAppend(&list, list.empty() ? "" : " or ", "'", name, "'");
    }
    return Unsupported(field, *value, list.c_str());
  }

 private:
  std::string path_;
  Json json_;
};

absl::Status CheckArchitecture(const Fields& fields) {
  if (fields.Get("model_type") == nullptr) return fields.Missing("model_type");
  WINNOW_RETURN_IF_ERROR(fields.OneOf("model_type", {"llama"}));
  if (const Json* architectures = fields.Get("architectures")) {
    if (*architectures != Json::array({"LlamaForCausalLM"})) {
      return fields.Unsupported("architectures", *architectures, "[\"LlamaForCausalLM\"]");
    }
  }
  return absl::OkStatus();
}

// Refuses what the engine would otherwise silently compute differently.
absl::Status CheckVariants(const Fields& fields) {
  WINNOW_RETURN_IF_ERROR(fields.OneOf("hidden_act", {"silu"}));
  WINNOW_RETURN_IF_ERROR(fields.OneOf("torch_dtype", {"bfloat16", "float16", "float32"}));
  WINNOW_RETURN_IF_ERROR(fields.OneOf("dtype", {"bfloat16", "float16", "float32"}));
  for (const char* field : {"attention_bias", "mlp_bias"}) {
    WINNOW_ASSIGN_OR_RETURN(const bool on, fields.Bool(field));
    if (on) return fields.Unsupported(field, true, "false");
  }
  for (const char* field : {"quantization_config", "sliding_window"}) {
    if (const Json* value = fields.Get(field)) return fields.Unsupported(field, *value, "absent");
  }
  return absl::OkStatus();
}

absl::Status ReadShape(const Fields& fields, ModelShape* shape) {
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

// rope_scaling (older) or rope_parameters (newer): only the plain rotation.
absl::Status CheckRopeType(const Fields& fields, const char* field, const Json& rope) {
  if (!rope.is_object()) return fields.Unsupported(field, rope, "an object");
  for (const char* key : {"rope_type", "type"}) {
    if (const auto it = rope.find(key); it != rope.end() && !it->is_null() && *it != "default") {
      return fields.Unsupported(absl::StrCat(field, ".", key).c_str(), *it, "'default'");
    }
  }
  if (const auto it = rope.find("partial_rotary_factor");
      it != rope.end() && !it->is_null() && *it != 1.0) {
    return fields.Unsupported(absl::StrCat(field, ".partial_rotary_factor").c_str(), *it, "1");
  }
  return absl::OkStatus();
}

absl::StatusOr<double> ReadRopeTheta(const Fields& fields) {
  constexpr double kDefault = 10000.0;  // Llama 2 folders leave it out
  const Json* theta = fields.Get("rope_theta");
  if (const Json* scaling = fields.Get("rope_scaling")) {
    WINNOW_RETURN_IF_ERROR(CheckRopeType(fields, "rope_scaling", *scaling));
  }
  if (const Json* parameters = fields.Get("rope_parameters")) {
    WINNOW_RETURN_IF_ERROR(CheckRopeType(fields, "rope_parameters", *parameters));
    if (const auto it = parameters->find("rope_theta"); it != parameters->end()) theta = &*it;
  }
  if (theta == nullptr) return kDefault;
  if (!theta->is_number() || !(theta->get<double>() > 0.0)) {
    return fields.Unsupported("rope_theta", *theta, "a positive number");
  }
  return theta->get<double>();
}

absl::StatusOr<double> ReadRmsNormEps(const Fields& fields) {
  const Json* eps = fields.Get("rms_norm_eps");
  if (eps == nullptr) return fields.Missing("rms_norm_eps");
  if (!eps->is_number() || !(eps->get<double>() > 0.0)) {
    return fields.Unsupported("rms_norm_eps", *eps, "a positive number");
  }
  return eps->get<double>();
}

absl::StatusOr<int> ReadTokenId(const Fields& fields, const char* field, const Json& value,
                                int vocab_size) {
  if (!value.is_number_unsigned() || value.get<uint64_t>() >= static_cast<uint64_t>(vocab_size)) {
    return fields.Unsupported(field, value, absl::StrCat("a token id below ", vocab_size).c_str());
  }
  return value.get<int>();
}

// eos_token_id is an integer or a list of them; empty when absent.
absl::StatusOr<std::vector<int>> ReadEosIds(const Fields& fields, int vocab_size) {
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
absl::Status ReadTokenIds(const Fields& fields, ModelConfig* config) {
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
  const Fields fields(path, std::move(json));
  WINNOW_RETURN_IF_ERROR(CheckArchitecture(fields));
  WINNOW_RETURN_IF_ERROR(CheckVariants(fields));
  ModelConfig config;
  config.family = "llama";
  WINNOW_RETURN_IF_ERROR(ReadShape(fields, &config.shape));
  WINNOW_ASSIGN_OR_RETURN(config.rms_norm_eps, ReadRmsNormEps(fields));
  WINNOW_ASSIGN_OR_RETURN(config.rope_theta, ReadRopeTheta(fields));
  WINNOW_ASSIGN_OR_RETURN(config.tie_word_embeddings, fields.Bool("tie_word_embeddings"));
  WINNOW_RETURN_IF_ERROR(ReadTokenIds(fields, &config));

  const std::string generation_path = (dir / "generation_config.json").string();
  absl::StatusOr<Json> generation = ReadJsonObject(generation_path);
  if (generation.ok()) {
    WINNOW_RETURN_IF_ERROR(ReadTokenIds(Fields(generation_path, *std::move(generation)), &config));
  } else if (generation.status().code() != absl::StatusCode::kNotFound) {
    return generation.status();
  }
  return config;
}

std::vector<float> RopeInverseFrequencies(const ModelConfig& config) {
  const int head_dim = config.shape.head_dim;
  std::vector<float> speeds(head_dim / 2);
  for (int c = 0; c < head_dim / 2; ++c) {
    speeds[c] = static_cast<float>(std::pow(config.rope_theta, -2.0 * c / head_dim));
  }
  return speeds;
}

}  // namespace winnow
