#include "engine/prefill_state.h"

#include <algorithm>
#include <cstring>

#include "common/status_macros.h"

namespace winnow {
namespace {

bool IsSource(const PrefillPlan& plan, int pass) {
  return std::any_of(plan.passes.begin(), plan.passes.end(),
                     [=](const PrefillPass& later) { return later.source == pass; });
}

}  // namespace

// Bytes of every device buffer but the selector's.
struct PrefillState::Sizes {
  struct Pass {
    int64_t kv = 0, held_rows = 0;
  };
  std::vector<Pass> passes;
  int64_t gather_workspace = 0, logits = 0;

  Sizes(const PrefillPlan& plan, const ModelShape& shape, const HeadSplit& heads,
        const Backend& backend) {
    const int64_t element = ElementSize(backend.dtype());
    const int64_t slot_bytes = int64_t{heads.kv_count} * shape.head_dim * element;
    for (int index = 0; index < static_cast<int>(plan.passes.size()); ++index) {
      const PrefillPass& pass = plan.passes[index];
      const int64_t layers = pass.last_layer - FirstKvLayer(pass) + 1;
      const int64_t held = IsSource(plan, index) ? pass.num_rows * shape.hidden * element : 0;
      passes.push_back({layers * 2 * pass.num_rows * slot_bytes, held});
    }
    for (const KvSegment& segment : plan.kv.segments) {
      if (segment.form != KvForm::kPerHead) continue;
      gather_workspace = std::max(gather_workspace, 2 * segment.entries * slot_bytes);
    }
    logits = shape.vocab_size * static_cast<int64_t>(sizeof(float));
  }
};

absl::StatusOr<std::unique_ptr<PrefillState>> PrefillState::Create(
    const PrefillSpec& spec, const ModelShape& shape, const HeadSplit& heads,
    const SelectorFactory& selectors, Backend& backend, Communicator& communicator) {
  auto state = std::unique_ptr<PrefillState>(new PrefillState(spec, shape, heads, backend));
  WINNOW_RETURN_IF_ERROR(state->Allocate(selectors, communicator));
  return state;
}

int64_t PrefillState::DeviceBytes(const SelectorContext& context, const ModelShape& shape,
                                  const SelectorFactory& selectors, int num_ranks) {
  const Sizes sizes(context.plan, shape, context.heads, context.backend);
  int64_t sum = sizes.gather_workspace + sizes.logits;
  for (const Sizes::Pass& pass : sizes.passes) sum += pass.kv + pass.held_rows;
  return context.plan.is_pruned() ? sum + selectors.DeviceBytes(context, num_ranks) : sum;
}

absl::Status PrefillState::Allocate(const SelectorFactory& selectors, Communicator& communicator) {
  const Sizes sizes(plan(), shape_, heads_, backend_);
  for (const Sizes::Pass& size : sizes.passes) {
    PassMemory& memory = passes_.emplace_back();
    WINNOW_ASSIGN_OR_RETURN(memory.kv, backend_.Allocate(size.kv));
    if (size.held_rows == 0) continue;
    WINNOW_ASSIGN_OR_RETURN(memory.held_rows, backend_.Allocate(size.held_rows));
  }
  WINNOW_ASSIGN_OR_RETURN(gather_workspace_, backend_.Allocate(sizes.gather_workspace));
  WINNOW_ASSIGN_OR_RETURN(logits_, backend_.Allocate(sizes.logits));
  WINNOW_ASSIGN_OR_RETURN(host_logits_, backend_.AllocateHost(sizes.logits));
  const size_t ids_bytes = spec_.prompt_ids.size() * sizeof(int32_t);
  WINNOW_ASSIGN_OR_RETURN(ids_, backend_.AllocateHost(ids_bytes));
  std::memcpy(ids_.data(), spec_.prompt_ids.data(), ids_bytes);
  if (!plan().is_pruned()) return absl::OkStatus();
  WINNOW_ASSIGN_OR_RETURN(
      selector_, selectors.Make({plan(), spec_.selection, heads_, backend_}, communicator));
  return absl::OkStatus();
}

const int32_t* PrefillState::positions(int pass) const {
  while (pass != PrefillPass::kPrompt && !plan().passes[pass].is_renumbered) {
    if (plan().passes[pass].is_selected) return selector_->positions(pass);
    pass = plan().passes[pass].source;
  }
  return nullptr;
}

void* PrefillState::cache(int pass, int layer, int which) const {
  const PrefillPass& shape = plan().passes[pass];
  const int64_t tensor_bytes =
      int64_t{heads_.kv_count} * shape.num_rows * shape_.head_dim * ElementSize(backend_.dtype());
  return passes_[pass].kv.at((2 * (layer - FirstKvLayer(shape)) + which) * tensor_bytes);
}

void PrefillState::CopyResults() {
  backend_.Copy(host_logits_.data(), logits_.data(), host_logits_.bytes());
  if (selector_ != nullptr) selector_->CopyResults();
}

}  // namespace winnow
