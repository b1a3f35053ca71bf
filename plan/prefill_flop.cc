#include "plan/prefill_flop.h"

namespace winnow {
namespace {

// Visible (query, key) pairs of `rows` rows of `pass` in `layer`, per query head.
double VisiblePairs(const PrefillPlan& plan, const PrefillPass& pass, int layer, double rows) {
  const bool reads_source = pass.source != PrefillPass::kPrompt && layer == pass.first_layer;
  const auto keys =
      static_cast<double>(reads_source ? plan.passes[pass.source].num_rows : pass.num_rows);
  if (rows == 1) return keys;                            // the last row
  return rows * ((reads_source ? keys : rows) + 1) / 2;  // rows spread evenly over their keys
}

}  // namespace

double PrefillFlop(const ModelShape& shape, const PrefillPlan& plan) {
  const double q = double(shape.num_q_heads) * shape.head_dim;
  const double kv = 2.0 * shape.num_kv_heads * shape.head_dim;
  const double per_row = 2 * q + 3.0 * shape.intermediate;  // q and o, then the MLP
  double flop = 0;
  for (const PrefillPass& pass : plan.passes) {
    for (int layer = pass.first_layer; layer <= pass.last_layer; ++layer) {
      const auto all_rows = static_cast<double>(pass.num_rows);
      const double kv_rows = layer >= FirstKvLayer(pass) ? all_rows : 0;
      const double last_rows = pass.makes_logits ? 1 : 0;
      const double rows = layer < pass.last_layer ? all_rows : last_rows;
      const double pairs = rows > 0 ? VisiblePairs(plan, pass, layer, rows) : 0;
      flop += 2 * shape.hidden * (kv_rows * kv + rows * per_row) + 4 * q * pairs;
    }
    if (pass.makes_logits) flop += 2.0 * shape.hidden * shape.vocab_size;  // the head, for one row
  }
  return flop;
}

}  // namespace winnow
