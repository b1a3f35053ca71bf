#include "checkpoint/shard_plan.h"

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace winnow {
namespace {

absl::Status CheckDivides(const char* what, int64_t size, int tensor_parallel) {
  if (size % tensor_parallel == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "tensor parallel ", tensor_parallel, " does not divide the model's ", what, " of ", size));
}

}  // namespace

absl::StatusOr<ShardPlan> MakeShardPlan(const ModelShape& shape, int tensor_parallel, int rank) {
  ShardPlan plan;
  WINNOW_ASSIGN_OR_RETURN(plan.heads, SplitHeads(shape, tensor_parallel, rank));
  WINNOW_RETURN_IF_ERROR(CheckDivides("MLP width", shape.intermediate, tensor_parallel));
  WINNOW_RETURN_IF_ERROR(CheckDivides("vocabulary", shape.vocab_size, tensor_parallel));
  plan.tensor_parallel = tensor_parallel;
  plan.rank = rank;
  plan.mlp_count = shape.intermediate / tensor_parallel;
  plan.mlp_begin = rank * plan.mlp_count;
  plan.vocab_count = shape.vocab_size / tensor_parallel;
  plan.vocab_begin = rank * plan.vocab_count;
  return plan;
}

int64_t NumWeights(const ModelConfig& config, const ShardPlan& shard) {
  const ModelShape& shape = config.shape;
  const int64_t hidden = shape.hidden;
  const int64_t q = int64_t{shard.heads.q_count} * shape.head_dim;
  const int64_t kv = 2 * int64_t{shard.heads.kv_count} * shape.head_dim;
  int64_t weights = 2 * shard.vocab_count * hidden + hidden;
  for (const LayerSpec& layer : config.layers) {
    weights += hidden * (2 * q + kv + 3 * shard.mlp_count) + 2 * hidden;
    if (layer.attention.qkv_bias) weights += q + kv;
    if (layer.attention.qk_norm) weights += 2 * shape.head_dim;
  }
  return weights;
}

}  // namespace winnow
