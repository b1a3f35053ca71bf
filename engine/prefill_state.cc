#include "engine/prefill_state.h"

#include <cstring>

#include "common/status_macros.h"

namespace winnow {

absl::StatusOr<std::unique_ptr<PrefillState>> PrefillState::Create(const PrefillSpec& spec,
                                                                   const ModelShape& shape,
                                                                   const HeadSplit& heads,
                                                                   Backend& backend,
                                                                   Communicator& communicator) {
  auto state = std::unique_ptr<PrefillState>(new PrefillState(spec, shape, heads, backend));
  WINNOW_RETURN_IF_ERROR(state->Allocate(communicator));
  return state;
}

// Bytes of every device buffer but CLAA's.
struct PrefillState::Sizes {
  int64_t prompt_kv, kept_kv, pivot_rows, gather_workspace, logits;

  Sizes(const KvPlan& plan, const ModelShape& shape, const HeadSplit& heads,
        const Backend& backend) {
    const int64_t element = ElementSize(backend.dtype());
    const int64_t slot_bytes = int64_t{heads.kv_count} * shape.head_dim * element;
    const int64_t prompt_layers = plan.pivot_layer + 1;
    bool has_per_head = false;
    for (int layer = 0; layer < plan.num_layers; ++layer) {
      has_per_head |= plan.form(layer) == KvLayerForm::kPerHead;
    }
    prompt_kv = prompt_layers * 2 * plan.num_prompt_tokens * slot_bytes;
    kept_kv = (plan.num_layers - prompt_layers) * 2 * plan.num_kept * slot_bytes;
    pivot_rows = (plan.pruned ? plan.num_prompt_tokens : 1) * shape.hidden * element;
    gather_workspace = has_per_head ? 2 * plan.num_kept * slot_bytes : 0;
    logits = shape.vocab_size * static_cast<int64_t>(sizeof(float));
  }
};

int64_t PrefillState::DeviceBytes(const KvPlan& plan, const SelectionConfig& selection,
                                  const ModelShape& shape, const HeadSplit& heads,
                                  const Backend& backend, int num_ranks) {
  const Sizes s(plan, shape, heads, backend);
  const int64_t claa =
      plan.pruned ? ClaaState::DeviceBytes(plan, selection, heads, backend, num_ranks) : 0;
  return s.prompt_kv + s.kept_kv + s.pivot_rows + s.gather_workspace + s.logits + claa;
}

absl::Status PrefillState::Allocate(Communicator& communicator) {
  const KvPlan& p = plan();
  const Sizes sizes(p, shape_, heads_, backend_);
  WINNOW_ASSIGN_OR_RETURN(prompt_kv_, backend_.Allocate(sizes.prompt_kv));
  WINNOW_ASSIGN_OR_RETURN(kept_kv_, backend_.Allocate(sizes.kept_kv));
  WINNOW_ASSIGN_OR_RETURN(pivot_rows_, backend_.Allocate(sizes.pivot_rows));
  WINNOW_ASSIGN_OR_RETURN(gather_workspace_, backend_.Allocate(sizes.gather_workspace));
  WINNOW_ASSIGN_OR_RETURN(logits_, backend_.Allocate(sizes.logits));
  WINNOW_ASSIGN_OR_RETURN(results_.logits,
                          backend_.AllocateHost(shape_.vocab_size * sizeof(float)));
  WINNOW_ASSIGN_OR_RETURN(ids_, backend_.AllocateHost(p.num_prompt_tokens * sizeof(int32_t)));
  std::memcpy(ids_.data(), spec_.prompt_ids.data(), p.num_prompt_tokens * sizeof(int32_t));
  if (!p.pruned) return absl::OkStatus();
  WINNOW_ASSIGN_OR_RETURN(claa_,
                          ClaaState::Create(p, spec_.selection, heads_, backend_, communicator));
  WINNOW_ASSIGN_OR_RETURN(results_.positions, backend_.AllocateHost(p.num_kept * sizeof(int32_t)));
  WINNOW_ASSIGN_OR_RETURN(results_.scores,
                          backend_.AllocateHost((p.window_begin + 1) * sizeof(float)));
  return absl::OkStatus();
}

void* PrefillState::cache(int layer, int which) const {
  const KvPlan& p = plan();
  const int64_t tensor_bytes =
      int64_t{heads_.kv_count} * capacity(layer) * shape_.head_dim * ElementSize(backend_.dtype());
  if (layer <= p.pivot_layer) return prompt_kv_.at((2 * layer + which) * tensor_bytes);
  return kept_kv_.at((2 * (layer - p.pivot_layer - 1) + which) * tensor_bytes);
}

void PrefillState::CopyResults() {
  backend_.Copy(results_.logits.data(), logits_.data(), results_.logits.bytes());
  if (claa_ == nullptr) return;
  backend_.Copy(results_.positions.data(), claa_->positions(), results_.positions.bytes());
  backend_.Copy(results_.scores.data(), claa_->scores(), results_.scores.bytes());
}

}  // namespace winnow
