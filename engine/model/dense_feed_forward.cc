#include "engine/model/dense_feed_forward.h"

#include <algorithm>

#include "common/status_macros.h"

namespace winnow {

absl::StatusOr<std::unique_ptr<DenseFeedForward>> DenseFeedForward::Create(
    const ModelWeights& weights, Backend& backend, int64_t max_rows) {
  auto feed_forward = std::unique_ptr<DenseFeedForward>(new DenseFeedForward(weights, backend));
  const int64_t gated_bytes = max_rows * weights.shard.mlp_count * ElementSize(backend.dtype());
  WINNOW_ASSIGN_OR_RETURN(feed_forward->gated_, backend.Allocate(gated_bytes));
  int64_t workspace_bytes = 0;
  for (const LayerWeights& layer : weights.layers) {
    const GatedMatmulParams params{.rows = max_rows, .x_stride = weights.config.shape.hidden};
    workspace_bytes =
        std::max(workspace_bytes, backend.WorkspaceBytes(*layer.feed_forward.gate_up, params));
  }
  WINNOW_ASSIGN_OR_RETURN(feed_forward->workspace_, backend.Allocate(workspace_bytes));
  return feed_forward;
}

void DenseFeedForward::Run(const Params& params) {
  const FeedForwardWeights& w = weights_.layers[params.layer].feed_forward;
  const int64_t width = weights_.shard.mlp_count;
  void* gated = gated_.at(params.row_begin * width * ElementSize(backend_.dtype()));
  backend_.GatedMatmul(*w.gate_up,
                       {.x = params.normed,
                        .out = gated,
                        .rows = params.rows,
                        .x_stride = weights_.config.shape.hidden},
                       workspace_.data());
  backend_.Matmul(*w.down, {.x = gated,
                            .out = params.out,
                            .rows = params.rows,
                            .x_stride = width,
                            .out_dtype = backend_.dtype(),
                            .accumulate = params.accumulate});
}

}  // namespace winnow
