#pragma once

#include "engine/prefill_engine.h"
#include "plan/selection_config.h"

namespace winnow {

// Logs how much device memory a rank has for prompts and how much the longest prompt takes, by the
// model's profile and unpruned; warns when it does not fit. Says nothing where memory is the
// host's.
void LogMemoryPlan(const PrefillEngine& engine, const SelectionConfig& profile);

}  // namespace winnow
