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

absl::Status PrefillState::Allocate(Communicator& communicator) {
  const KvPlan& p = plan();
  const int64_t element = ElementSize(backend_.dtype());
  const int64_t slot_bytes = int64_t{heads_.kv_count} * shape_.head_dim * element;
  const int64_t prompt_layers = p.pivot_layer + 1;
  const int64_t kept_layers = p.num_layers - prompt_layers;
  const int64_t held_rows = p.num_prompt_tokens - pivot_rows_begin();
  WINNOW_ASSIGN_OR_RETURN(prompt_kv_,
                          backend_.Allocate(prompt_layers * 2 * p.num_prompt_tokens * slot_bytes));
  WINNOW_ASSIGN_OR_RETURN(kept_kv_, backend_.Allocate(kept_layers * 2 * p.num_kept * slot_bytes));
  WINNOW_ASSIGN_OR_RETURN(pivot_rows_, backend_.Allocate(held_rows * shape_.hidden * element));
  WINNOW_ASSIGN_OR_RETURN(logits_, backend_.Allocate(shape_.vocab_size * sizeof(float)));
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
