#pragma once

#include <algorithm>
#include <cstdint>

namespace winnow {

// The numbers of a decoder-only transformer that every part must agree on.
struct ModelShape {
  int num_layers = 0;
  int hidden = 0;
  int num_q_heads = 0;
  int num_kv_heads = 0;  // divides num_q_heads
  int head_dim = 0;
  int intermediate = 0;
  int vocab_size = 0;
  int64_t max_context = 0;  // prompt + generated tokens, at most

  // The shape served with no more context than this; 0: the model's.
  ModelShape WithContext(int64_t most) const {
    ModelShape shape = *this;
    if (most > 0) shape.max_context = std::min(max_context, most);
    return shape;
  }

  friend bool operator==(const ModelShape&, const ModelShape&) = default;
};

}  // namespace winnow
