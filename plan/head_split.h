#pragma once

#include "absl/status/statusor.h"
#include "plan/model_shape.h"

namespace winnow {

// The heads that one tensor-parallel rank holds. With T ≤ KV heads a rank has whole KV groups; with
// more ranks, T / num_kv_heads neighbours share one KV head and split its query heads, and only the
// first of them ships its KV.
struct HeadSplit {
  int kv_begin = 0;  // KV heads [kv_begin, kv_begin + kv_count)
  int kv_count = 0;
  int q_begin = 0;  // query heads [q_begin, q_begin + q_count)
  int q_count = 0;
  int sharing_ranks = 1;  // ranks that hold this KV head
  bool ships_kv = true;   // the one that sends it

  friend bool operator==(const HeadSplit&, const HeadSplit&) = default;
};

// INVALID_ARGUMENT, with the numbers, when T does not divide the heads.
absl::StatusOr<HeadSplit> SplitHeads(const ModelShape& shape, int tensor_parallel, int rank);

}  // namespace winnow
