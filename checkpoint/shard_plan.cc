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

}  // namespace winnow
