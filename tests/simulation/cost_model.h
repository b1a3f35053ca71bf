#pragma once

#include <algorithm>
#include <cstdint>

#include "absl/time/time.h"
#include "plan/model_shape.h"
#include "plan/prefill_plan.h"
#include "plan/selection_config.h"

namespace winnow {

// How long an engine's steps take: seconds per row and layer, and per entry that a row attends to.
struct CostModel {
  double row_layer_s = 0;        // the products of one row in one layer
  double attention_s = 0;        // one row, one layer, one entry before it
  double prefill_step_s = 0;     // of every step, at least: it reads all weights once
  double decode_step_s = 0;      // of a decode step
  double decode_sequence_s = 0;  // and of every sequence in it

  // `rows` of a pass, from `row_begin` on, which see the rows before them.
  double Rows(const PrefillPass& pass, int64_t row_begin, int64_t rows) const {
    const int layers = pass.last_layer - pass.first_layer;
    const double mean_entries = static_cast<double>(row_begin) + static_cast<double>(rows) / 2;
    return layers * static_cast<double>(rows) * (row_layer_s + attention_s * mean_entries);
  }
  // A step that takes `work_s` of rows.
  absl::Duration PrefillStep(double work_s) const {
    return absl::Seconds(std::max(prefill_step_s, work_s));
  }
  // A prompt that has the engine for itself, in steps of `step_rows`.
  absl::Duration Prompt(const PrefillPlan& plan, int64_t step_rows) const {
    absl::Duration sum;
    for (const PrefillPass& pass : plan.passes) {
      for (int64_t begin = 0; begin < pass.num_rows; begin += step_rows) {
        sum += PrefillStep(Rows(pass, begin, std::min(step_rows, pass.num_rows - begin)));
      }
    }
    return sum;
  }
  absl::Duration DecodeStep(int64_t sequences) const {
    return absl::Seconds(decode_step_s + decode_sequence_s * static_cast<double>(sequences));
  }
};

// Llama-3.1-8B in bf16 on one H100, fitted to the tables of docs/performance.md: prompts of 2K, 8K
// and 32K tokens in 45, 198 and 1,103 ms, 8K with a tenth kept in 110 ms; decode steps of 7 ms for
// one sequence and 12 ms for 64.
inline CostModel H100With8B() {
  return {.row_layer_s = 6.6e-7,
          .attention_s = 2.4e-11,
          .prefill_step_s = 6e-3,
          .decode_step_s = 6.9e-3,
          .decode_sequence_s = 8e-5};
}
inline ModelShape ShapeOf8B() {
  return {.num_layers = 32,
          .hidden = 4096,
          .num_q_heads = 32,
          .num_kv_heads = 8,
          .head_dim = 128,
          .intermediate = 14336,
          .vocab_size = 128256,
          .max_context = 131072};
}

}  // namespace winnow
