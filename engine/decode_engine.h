#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "plan/model_shape.h"
#include "plan/sampling_params.h"

namespace winnow {

// One sequence's part of a decode step: `token` enters at `position`.
struct DecodeStepItem {
  int64_t handle = 0;  // of its PagedKv sequence
  int32_t token = 0;
  int64_t position = 0;                      // N for the first step
  int64_t entries_added = 0;                 // by earlier steps, to every layer
  const SamplingParams* sampling = nullptr;  // null: a forced token follows, nothing is drawn
  int64_t sample_index = 0;                  // of the token that is drawn
};

// In place of a token in a step's result.
constexpr int32_t kNoTokenWanted = -1;
constexpr int32_t kLogitsNotFinite = -2;  // NaN, or the highest is infinite: this sequence is lost

// Runs decode steps on a group of ranks. One thread calls it.
class DecodeEngine {
 public:
  virtual ~DecodeEngine() = default;
  virtual const ModelShape& shape() const = 0;
  virtual int max_batch() const = 0;
  // The token drawn for each item, or why there is none. An error concerns the whole batch.
  virtual absl::StatusOr<std::vector<int32_t>> Step(absl::Span<const DecodeStepItem> items) = 0;
};

}  // namespace winnow
