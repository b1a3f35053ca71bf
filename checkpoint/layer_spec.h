#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "checkpoint/config_fields.h"
#include "plan/model_shape.h"

namespace winnow {

// What one decoder layer computes, as its checkpoint describes the layer:
//   x += attention(norm(x)), then x += feed_forward(norm(x)).
// The engine computes every value that ReadLayers returns. A value that the engine lacks
// (kExperts) is refused by ReadLayers and never approximated.

enum class NormKind { kRms };          // arXiv 1910.07467
enum class NormPlacement { kBefore };  // of attention and of the feed-forward
enum class Activation { kSilu };       // z / (1 + e^−z)
enum class FeedForwardKind {
  kDense,    // down(activation(gate(x)) · up(x)), arXiv 2002.05202
  kExperts,  // a routed choice of several; not computed yet
};

struct AttentionSpec {
  int64_t window = 0;     // keys that a query sees, its own included; 0: all up to its own
  int rotary_dims = 0;    // the first dimensions of a head, which RoPE rotates
  bool qkv_bias = false;  // of the query, key and value projections
  bool qk_norm = false;   // RMSNorm of each query and key head before RoPE

  friend bool operator==(const AttentionSpec&, const AttentionSpec&) = default;
};

struct NormSpec {
  NormKind kind = NormKind::kRms;
  NormPlacement placement = NormPlacement::kBefore;

  friend bool operator==(const NormSpec&, const NormSpec&) = default;
};

struct FeedForwardSpec {
  FeedForwardKind kind = FeedForwardKind::kDense;
  Activation activation = Activation::kSilu;

  friend bool operator==(const FeedForwardSpec&, const FeedForwardSpec&) = default;
};

struct LayerSpec {
  AttentionSpec attention;
  NormSpec norms;
  FeedForwardSpec feed_forward;

  friend bool operator==(const LayerSpec&, const LayerSpec&) = default;
};

// The layers of a config.json, [shape.num_layers]. `common` holds what the family fixes and the
// file does not say; `has_window` tells whether the family's sliding_window field is in force.
// INVALID_ARGUMENT, with the field's name: a layer that the engine does not compute.
absl::StatusOr<std::vector<LayerSpec>> ReadLayers(const ConfigFields& fields,
                                                  const LayerSpec& common, bool has_window,
                                                  const ModelShape& shape);

}  // namespace winnow
