#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/comm/communicator.h"
#include "engine/device/backend.h"
#include "plan/head_split.h"
#include "plan/prefill_plan.h"
#include "plan/selection_config.h"

namespace winnow {

// Chooses which rows of one prompt go on, on one rank. The passes of the prompt's plan say when: a
// layer that a pass scores shows the selector its queries and, once they are complete, its keys;
// before a pass whose rows are selected, the ranks reduce what they saw and select. All work goes
// to the backend's queue; the host reads nothing before CopyResults. One thread calls it.
class TokenSelector {
 public:
  virtual ~TokenSelector() = default;

  // Rows of a scoring pass from which on a scored layer's queries are wanted.
  virtual int64_t first_query_row() const = 0;
  // Rotated queries of the rows [row_begin, row_begin + rows) of a scored layer's pass,
  // [rows][q_count][head_dim]. Rows before first_query_row are ignored.
  virtual void OnQueries(int layer, const void* q, int64_t row_begin, int64_t rows) = 0;
  // Where attention leaves the logarithms of its softmax denominators of the rows from
  // first_query_row on, [q_count][rows of the pass − first_query_row], in a last chunk that begins
  // at row_begin. Null: the selector needs none.
  virtual float* attention_lse(int layer, int64_t row_begin) const = 0;
  // All keys of a scored layer, [kv_count][rows of the pass][head_dim]. `lse`: attention_lse, once
  // attention has filled the memory, or null. Afterwards head_positions(layer) stand, if heads
  // choose their own entries of the layer.
  virtual absl::Status OnKeys(int layer, const void* keys, const float* lse, Deadline deadline) = 0;

  // Makes what the ranks saw one, for the selection before `pass`: a collective.
  virtual absl::Status Reduce(int pass, Deadline deadline) = 0;
  // Selects the rows of `pass`; rows(pass) and positions(pass) stand afterwards. Not called for a
  // first pass: its rows stand from the start.
  virtual void Select(int pass) = 0;
  // The rows of the source of `pass` that run in it, and their positions in the prompt: [num_rows]
  // each, ascending, on the device.
  virtual const int32_t* rows(int pass) const = 0;
  virtual const int32_t* positions(int pass) const = 0;
  // [kv_count][entries] positions of a layer whose heads choose their own, on the device. Every
  // layer has its own list: lists are copied out beside the queue.
  virtual const int32_t* head_positions(int layer) const = 0;

  // Enqueues copies of the results to the host. What follows is valid once the queue has passed
  // them.
  virtual void CopyResults() = 0;
  // INTERNAL: what the selection rests on is not a number.
  virtual absl::Status Check() const = 0;
  // Positions that the last selection kept, ascending.
  virtual absl::Span<const int32_t> kept_positions() const = 0;
  // Scores of the positions that compete, from 0 up; empty where nothing scores.
  virtual absl::Span<const float> scores() const = 0;
};

// What a selector is made for. The references must outlive it.
struct SelectorContext {
  const PrefillPlan& plan;
  const SelectionConfig& config;
  const HeadSplit& heads;
  Backend& backend;
};

// Makes the selectors of an engine's prompts. Thread-safe.
class SelectorFactory {
 public:
  virtual ~SelectorFactory() = default;
  // REQUIRES: context.plan.is_pruned(). RESOURCE_EXHAUSTED.
  virtual absl::StatusOr<std::unique_ptr<TokenSelector>> Make(const SelectorContext& context,
                                                              Communicator& communicator) const = 0;
  // Device memory that Make takes on a rank of `num_ranks`.
  virtual int64_t DeviceBytes(const SelectorContext& context, int num_ranks) const = 0;
};

}  // namespace winnow
