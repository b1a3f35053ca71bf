#pragma once

#include "kernels/types.h"

namespace winnow {

// The element types that a device keeps a model in, one for each use: a new number format changes
// one of them. Today's ops read products, rows and stored keys as one type, so that LoadModelRanks
// refuses a mix.
struct ModelTypes {
  DType weights = DType::kF32;  // packed, of products
  // Hidden rows, queries, and what is added to them or multiplied with them without a product:
  // embedding, norms, biases.
  DType activations = DType::kF32;
  DType kv = DType::kF32;  // stored keys and values

  constexpr ModelTypes() = default;
  constexpr ModelTypes(DType all)  // NOLINT: the usual case is one type for all uses
      : weights(all), activations(all), kv(all) {}
  constexpr ModelTypes(DType weights, DType activations, DType kv)
      : weights(weights), activations(activations), kv(kv) {}

  friend bool operator==(const ModelTypes&, const ModelTypes&) = default;
};

}  // namespace winnow
