#include "engine/select/given_selector.h"

#include <cstring>
#include <numeric>

#include "common/status_macros.h"

namespace winnow {

absl::StatusOr<GivenSelector::List> GivenSelector::Upload(Backend& backend,
                                                          const std::vector<int32_t>& values) {
  const size_t bytes = values.size() * sizeof(int32_t);
  List list;
  WINNOW_ASSIGN_OR_RETURN(list.host, backend.AllocateHost(bytes));
  WINNOW_ASSIGN_OR_RETURN(list.device, backend.Allocate(bytes));
  std::memcpy(list.host.data(), values.data(), bytes);
  backend.Copy(list.device.data(), list.host.data(), bytes);
  return list;
}

absl::StatusOr<std::unique_ptr<GivenSelector>> GivenSelector::Create(
    const SelectorContext& context, const std::vector<std::vector<int32_t>>& rows) {
  auto selector = std::make_unique<GivenSelector>();
  std::vector<std::vector<int32_t>> positions;  // of each pass's rows in the prompt
  for (size_t pass = 0; pass < context.plan.passes.size(); ++pass) {
    const PrefillPass& shape = context.plan.passes[pass];
    std::vector<int32_t> of_source;
    if (shape.source == PrefillPass::kPrompt) {
      of_source.resize(context.plan.kv.num_prompt_tokens);
      std::iota(of_source.begin(), of_source.end(), 0);
    } else {
      of_source = positions[shape.source];
    }
    Pass& made = selector->passes_.emplace_back();
    positions.push_back(of_source);
    if (!shape.is_selected) continue;
    positions.back().clear();
    for (const int32_t row : rows[pass]) positions.back().push_back(of_source[row]);
    WINNOW_ASSIGN_OR_RETURN(made.rows, Upload(context.backend, rows[pass]));
    WINNOW_ASSIGN_OR_RETURN(made.positions, Upload(context.backend, positions.back()));
    selector->kept_ = positions.back();
  }
  return selector;
}

int64_t GivenSelector::DeviceBytes(const PrefillPlan& plan) {
  int64_t rows = 0;
  for (const PrefillPass& pass : plan.passes) rows += pass.is_selected ? pass.num_rows : 0;
  return 2 * rows * static_cast<int64_t>(sizeof(int32_t));
}

}  // namespace winnow
