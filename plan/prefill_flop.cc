#include "plan/prefill_flop.h"

namespace winnow {

double PrefillFlop(const ModelShape& shape, const KvPlan& plan) {
  const double q = double(shape.num_q_heads) * shape.head_dim;
  const double kv = 2.0 * shape.num_kv_heads * shape.head_dim;
  const auto prompt = static_cast<double>(plan.num_prompt_tokens);
  const auto kept = static_cast<double>(plan.num_phase2_rows());
  double flop = 2.0 * shape.hidden * shape.vocab_size;  // the head, for one row
  for (int layer = 0; layer < shape.num_layers; ++layer) {
    const double kv_rows = layer <= plan.pivot_layer ? prompt : kept;
    double rows = layer < plan.pivot_layer ? prompt : kept;
    if (layer == shape.num_layers - 1) rows = 1;
    double pairs = rows * (rows + 1) / 2;                            // consecutive rows
    if (layer == plan.pivot_layer) pairs = rows * (prompt + 1) / 2;  // spread over all keys
    if (rows == 1) pairs = layer > plan.pivot_layer ? kept : prompt;
    const double per_row = 2 * q + 3.0 * shape.intermediate;  // q and o, then the MLP
    flop += 2 * shape.hidden * (kv_rows * kv + rows * per_row) + 4 * q * pairs;
  }
  return flop;
}

}  // namespace winnow
