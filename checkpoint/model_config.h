#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "checkpoint/layer_spec.h"
#include "checkpoint/rope_config.h"
#include "plan/model_shape.h"

namespace winnow {

// What a Hugging Face config.json says, in our terms. Reads older and newer field names (rope_theta
// or rope_parameters, torch_dtype or dtype).
struct ModelConfig {
  std::string family;             // the model_type: "llama", "mistral", "qwen2" or "qwen3"
  ModelShape shape;               // max_context ends where a layer's window would hide tokens
  std::vector<LayerSpec> layers;  // [shape.num_layers]
  double rms_norm_eps = 1e-5;
  RopeConfig rope;
  bool tie_word_embeddings = false;
  std::vector<int> eos_token_ids;  // of generation_config.json where it has them, else config.json
  int bos_token_id = -1;           // −1: none
};

// Reads MODEL_DIR/config.json and generation_config.json. NOT_FOUND: no such file.
// INVALID_ARGUMENT: a field is missing or has a value that is not supported (architecture, rope
// type, quantisation, …); the text names field and value.
absl::StatusOr<ModelConfig> LoadModelConfig(const std::string& model_dir);

}  // namespace winnow
