#include "prefill_worker/memory_plan.h"

#include <algorithm>
#include <limits>

#include "common/log.h"

namespace winnow {

void LogMemoryPlan(const PrefillEngine& engine, const SelectionConfig& profile) {
  const ModelShape& shape = engine.shape();
  SelectionConfig full = profile;
  full.policy = &kFullPolicy;
  const auto longest = [&](const SelectionConfig& selection) {
    return engine.MemoryFor(MakePrefillPlan(shape, selection, shape.max_context), selection);
  };
  const PrefillMemory pruned = longest(profile), unpruned = longest(full);
  if (pruned.total == std::numeric_limits<int64_t>::max()) return;  // the host's memory
  constexpr double kGib = 1 << 30;
  spdlog::info(
      "memory plan of a rank: {:.2f} GiB for prompts beside the weights and the buffers of a step; "
      "one of {} tokens takes {:.2f} GiB by the profile and {:.2f} GiB unpruned",
      pruned.total / kGib, shape.max_context, pruned.needed / kGib, unpruned.needed / kGib);
  if (std::max(pruned.needed, unpruned.needed) > pruned.total) {
    spdlog::warn("the longest prompts do not fit and will be refused");
  }
}

}  // namespace winnow
