#pragma once

#include "plan/model_shape.h"
#include "plan/prefill_plan.h"

namespace winnow {

// Floating-point operations of a prefill: the matmuls of the rows that are computed (biases, norms
// and the like left out), and the (query, key) pairs that are visible; the last layer for one row
// only. Scores are left out: they are far below 1 %.
double PrefillFlop(const ModelShape& shape, const PrefillPlan& plan);

}  // namespace winnow
