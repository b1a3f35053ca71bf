#pragma once

#include "nlohmann/json.hpp"
#include "plan/ledger.h"

namespace winnow {

// {"tokenize": seconds, "admit": …, … "relay": …}, as the commands that print answers show them.
nlohmann::ordered_json StagesJson(const StageTimes& stages);

}  // namespace winnow
