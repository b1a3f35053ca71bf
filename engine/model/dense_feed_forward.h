#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "engine/device/backend.h"
#include "engine/model/weights.h"

namespace winnow {

// The feed-forward half of the decoder layers on one rank, of FeedForwardKind::kDense:
// down(activation(gate(x)) · up(x)), each rank with its columns of the intermediate width.
// Everything goes to the backend's queue. Used by one thread at a time.
//
// This is the seam for other kinds. Transformer calls Run and nothing else: normed rows in, the
// rank's share of the sum out. A layer of experts is a second class with the same Run, chosen by
// LayerSpec::feed_forward.kind; the routing and its scratch stay inside that class.
class DenseFeedForward {
 public:
  // Scratch for `max_rows` rows. `weights` and `backend` must outlive the object.
  // RESOURCE_EXHAUSTED: no memory for the scratch.
  static absl::StatusOr<std::unique_ptr<DenseFeedForward>> Create(const ModelWeights& weights,
                                                                  Backend& backend,
                                                                  int64_t max_rows);

  struct Params {
    int layer = 0;
    const void* normed = nullptr;  // [rows][hidden]
    int64_t row_begin = 0;         // of the step's rows; scratch rows are the step's
    int64_t rows = 0;
    void* out = nullptr;      // [rows][hidden]: the rank's share of the sum over all columns
    bool accumulate = false;  // out += instead of out =
  };
  void Run(const Params& params);

 private:
  DenseFeedForward(const ModelWeights& weights, Backend& backend)
      : weights_(weights), backend_(backend) {}

  const ModelWeights& weights_;
  Backend& backend_;
  Buffer gated_;      // [max_rows][mlp_count]: activation(gate) · up
  Buffer workspace_;  // of GatedMatmul, in the layer that needs most
};

}  // namespace winnow
