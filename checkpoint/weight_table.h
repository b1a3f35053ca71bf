#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/model_config.h"
#include "checkpoint/shard_plan.h"

namespace winnow {

// What a part of a checkpoint becomes in the engine. Parts of one target stand one under the other.
enum class WeightTarget {
  kEmbedding,
  kInputNorm,
  kQ,
  kKv,  // K rows, then V rows
  kQBias,
  kKvBias,
  kQNorm,
  kKNorm,
  kO,
  kPostAttentionNorm,
  kGateUp,  // gate rows, then up rows
  kDown,
  kFinalNorm,
  kHead,
};

// Indices [begin, begin + count) along one side of a tensor.
struct Range {
  int64_t begin = 0;
  int64_t count = 0;

  friend bool operator==(const Range&, const Range&) = default;
};

// One rank's part of a named tensor of the checkpoint.
struct TensorPart {
  std::string name;                       // Hugging Face's
  int64_t num_rows = 0, num_columns = 0;  // of the whole tensor; num_columns 0: a vector
  Range rows, columns;                    // the part; a vector has no columns
  WeightTarget target = WeightTarget::kEmbedding;
  int layer = -1;  // −1: of no layer

  bool is_vector() const { return num_columns == 0; }
  int64_t num_elements() const { return rows.count * (is_vector() ? 1 : columns.count); }
};

// All that the rank holds, in the order of the forward pass; parts of one target follow each other.
// A tied head is a part of its own: the products want another layout than the embedding.
std::vector<TensorPart> WeightTable(const ModelConfig& config, const ShardPlan& shard);

// Weights that the rank holds, in elements.
int64_t NumWeights(const ModelConfig& config, const ShardPlan& shard);

}  // namespace winnow
