#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "plan/head_split.h"
#include "plan/model_shape.h"

namespace winnow {

// The part of each weight that one tensor-parallel rank reads: rows of q/k/v, gate/up, embedding
// and head; columns of o and down.
struct ShardPlan {
  int tensor_parallel = 1;
  int rank = 0;
  HeadSplit heads;
  int64_t mlp_begin = 0;  // of `intermediate`
  int64_t mlp_count = 0;
  int64_t vocab_begin = 0;  // of the vocabulary
  int64_t vocab_count = 0;
};

// INVALID_ARGUMENT, with the numbers, when T does not divide heads, MLP width or vocabulary.
absl::StatusOr<ShardPlan> MakeShardPlan(const ModelShape& shape, int tensor_parallel, int rank);

}  // namespace winnow
