#include "engine/select/policy_selectors.h"

#include <vector>

#include "engine/select/claa_selector.h"
#include "engine/select/given_selector.h"

namespace winnow {

absl::StatusOr<std::unique_ptr<TokenSelector>> PolicySelectors::Make(
    const SelectorContext& context, Communicator& communicator) const {
  const Policy& policy = *context.config.policy;
  if (policy.choose_rows == nullptr) return ClaaSelector::Create(context, communicator);
  std::vector<std::vector<int32_t>> rows(context.plan.passes.size());
  rows[0] = policy.choose_rows(context.config, context.plan);
  return GivenSelector::Create(context, rows);
}

int64_t PolicySelectors::DeviceBytes(const SelectorContext& context, int num_ranks) const {
  return context.config.policy->choose_rows == nullptr
             ? ClaaSelector::DeviceBytes(context, num_ranks)
             : GivenSelector::DeviceBytes(context.plan);
}

}  // namespace winnow
