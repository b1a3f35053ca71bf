#pragma once

#include <cstdint>
#include <vector>

#include "plan/selection_config.h"

namespace winnow {

// Positions below `end` that must be kept: the prefix and the spans, clipped, merged, ascending.
std::vector<PositionSpan> ProtectedSpans(const SelectionConfig& config, int64_t end);

// C of a prompt of N tokens whose last `always_kept` rows are kept in any case: the share that the
// config asks for, raised to its floor, to one token more than those rows, and to what is
// protected. At least N means that nothing is pruned.
int64_t NumKept(const SelectionConfig& config, int64_t num_prompt_tokens, int64_t always_kept);

}  // namespace winnow
