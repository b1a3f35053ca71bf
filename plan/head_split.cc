#include "plan/head_split.h"

#include "absl/strings/str_cat.h"

namespace winnow {

absl::StatusOr<HeadSplit> SplitHeads(const ModelShape& shape, int tensor_parallel, int rank) {
  const int heads = shape.num_kv_heads;
  const bool divides = tensor_parallel >= 1 && shape.num_q_heads % tensor_parallel == 0 &&
                       (heads % tensor_parallel == 0 || tensor_parallel % heads == 0);
  if (!divides) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor parallel ", tensor_parallel,
                     " does not divide the model: it must divide its ", shape.num_q_heads,
                     " query heads, and divide or be a multiple of its ", heads, " KV heads"));
  }
  if (rank < 0 || rank >= tensor_parallel) {
    return absl::InvalidArgumentError(
        absl::StrCat("rank must be in [0, ", tensor_parallel, "), got ", rank));
  }
  HeadSplit split;
  split.q_count = shape.num_q_heads / tensor_parallel;
  split.q_begin = rank * split.q_count;
  if (tensor_parallel <= heads) {
    split.kv_count = heads / tensor_parallel;
    split.kv_begin = rank * split.kv_count;
  } else {
    split.sharing_ranks = tensor_parallel / heads;
    split.kv_count = 1;
    split.kv_begin = rank / split.sharing_ranks;
    split.ships_kv = rank % split.sharing_ranks == 0;
  }
  return split;
}

}  // namespace winnow
