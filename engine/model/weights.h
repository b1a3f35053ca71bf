#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "checkpoint/model_config.h"
#include "checkpoint/shard_plan.h"
#include "engine/device/backend.h"
#include "engine/model/tensor_source.h"

namespace winnow {

// What AttentionBlock needs of one layer. q and kv are split by rows, o by columns.
struct AttentionWeights {
  std::unique_ptr<PackedWeight> q;   // [q_count·head_dim][hidden]
  std::unique_ptr<PackedWeight> kv;  // [2·kv_count·head_dim][hidden]: K rows, then V rows
  Buffer q_bias, kv_bias;            // as many as rows; empty: none
  Buffer q_norm, k_norm;             // [head_dim]; empty: none
  std::unique_ptr<PackedWeight> o;   // [hidden][q_count·head_dim]
};

// What DenseFeedForward needs of one layer. gate_up is split by rows, down by columns.
struct FeedForwardWeights {
  std::unique_ptr<PackedWeight> gate_up;  // [2·mlp_count][hidden]: gate rows, then up rows
  std::unique_ptr<PackedWeight> down;     // [hidden][mlp_count]
};

// One layer's weights of one rank.
struct LayerWeights {
  Buffer input_norm;  // [hidden]
  AttentionWeights attention;
  Buffer post_attention_norm;  // [hidden]
  FeedForwardWeights feed_forward;
};

// One rank's shard of a model, on its backend.
struct ModelWeights {
  ModelConfig config;
  ShardPlan shard;
  Buffer embedding;  // [vocab_count][hidden]
  std::vector<LayerWeights> layers;
  Buffer final_norm;                      // [hidden]
  std::unique_ptr<PackedWeight> lm_head;  // [vocab_count][hidden]
  Buffer inv_freq;                        // [head_dim / 2] f32
};

// Loads what WeightTable(config, shard) lists, in the types of `backend`. `progress`, when given,
// is called with the bytes read so far. Errors are the source's and the backend's.
absl::StatusOr<std::unique_ptr<ModelWeights>> LoadWeights(
    TensorSource& source, const ModelConfig& config, const ShardPlan& shard, Backend& backend,
    const std::function<void(int64_t)>& progress = nullptr);

}  // namespace winnow
