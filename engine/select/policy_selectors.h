#pragma once

#include <memory>

#include "engine/select/token_selector.h"

namespace winnow {

// The selectors that the configs' policies ask for: rows that the policy chooses itself, or scores.
class PolicySelectors final : public SelectorFactory {
 public:
  absl::StatusOr<std::unique_ptr<TokenSelector>> Make(const SelectorContext& context,
                                                      Communicator& communicator) const override;
  int64_t DeviceBytes(const SelectorContext& context, int num_ranks) const override;
};

}  // namespace winnow
