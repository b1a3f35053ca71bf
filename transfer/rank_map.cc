#include "transfer/rank_map.h"

#include "common/status_macros.h"

namespace winnow {

absl::StatusOr<std::vector<int>> SendingRanks(const ModelShape& shape, int source_tensor_parallel) {
  std::vector<int> ranks;
  for (int rank = 0; rank < source_tensor_parallel; ++rank) {
    WINNOW_ASSIGN_OR_RETURN(const HeadSplit split, SplitHeads(shape, source_tensor_parallel, rank));
    if (split.ships_kv) ranks.push_back(rank);
  }
  return ranks;
}

absl::StatusOr<std::vector<int>> StoringRanks(const ModelShape& shape, int target_tensor_parallel,
                                              int kv_head) {
  std::vector<int> ranks;
  for (int rank = 0; rank < target_tensor_parallel; ++rank) {
    WINNOW_ASSIGN_OR_RETURN(const HeadSplit split, SplitHeads(shape, target_tensor_parallel, rank));
    if (kv_head >= split.kv_begin && kv_head < split.kv_begin + split.kv_count)
      ranks.push_back(rank);
  }
  return ranks;
}

}  // namespace winnow
