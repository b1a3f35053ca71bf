#pragma once

#include <cstdint>

namespace winnow::sm90 {

// Position in a ring of stages; the parity of a fresh ring's first full phase is 0.
template <int kStages>
struct StageRing {
  int stage = 0;
  uint32_t parity = 0;
  __device__ void Advance() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

}  // namespace winnow::sm90
