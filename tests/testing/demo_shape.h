#pragma once

#include "plan/model_shape.h"
#include "plan/selection_config.h"

namespace winnow {

// The demo model's shape; ModelConfigTest.ReadsTheDemoModel compares models/demo with this.
inline ModelShape DemoShape() {
  return {.num_layers = 12,
          .hidden = 256,
          .num_q_heads = 8,
          .num_kv_heads = 4,
          .head_dim = 64,
          .intermediate = 384,
          .vocab_size = 4096,
          .max_context = 32768};
}

// The demo profile's layers without guard rails: W = 8, z = 0, lp = 5, n = 4, m = 2, keep 0.1.
inline SelectionConfig DemoConfig() {
  SelectionConfig config;
  config.selection_layer = 5;
  config.uncompacted_layers = 2;
  config.min_prompt_tokens = 0;
  config.min_kept_tokens = 0;
  return config;
}

}  // namespace winnow
