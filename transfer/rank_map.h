#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "plan/head_split.h"
#include "plan/model_shape.h"

namespace winnow {

// Which rank sends and which ranks store each KV head, for any two tensor-parallel sizes. Pure:
// both sides compute it.

// Source ranks that send, ascending: those whose KV heads no lower rank has. Streams are numbered
// in this order, streams_per_rank each.
absl::StatusOr<std::vector<int>> SendingRanks(const ModelShape& shape, int source_tensor_parallel);

// Target ranks that hold `kv_head`, ascending; more than one when ranks share a head.
absl::StatusOr<std::vector<int>> StoringRanks(const ModelShape& shape, int target_tensor_parallel,
                                              int kv_head);

}  // namespace winnow
