#include "plan/ledger.h"

namespace winnow {

Ledger MakeLedger(const KvPlan& plan, int element_bytes) {
  Ledger ledger;
  ledger.prompt_tokens = plan.num_prompt_tokens;
  ledger.kept_tokens = plan.num_kept;
  for (int layer = 0; layer < plan.num_layers; ++layer) {
    Ledger::Segment* segment = nullptr;
    switch (plan.form(layer)) {
      case KvLayerForm::kAll:
        segment = &ledger.all;
        break;
      case KvLayerForm::kPerHead:
        segment = &ledger.per_head;
        break;
      case KvLayerForm::kSelected:
        segment = &ledger.selected;
        break;
    }
    segment->layers += 1;
    segment->entries_kept += plan.entries(layer) * plan.num_kv_heads;
    segment->entries_pruned += (plan.num_prompt_tokens - plan.entries(layer)) * plan.num_kv_heads;

    const bool is_last = layer == plan.num_layers - 1;  // the last-layer trim: one row
    const int64_t rows = layer < plan.pivot_layer ? plan.num_prompt_tokens : plan.num_phase2_rows();
    ledger.computed_token_layers += is_last ? 1 : rows;
  }
  ledger.kv_bytes_full = plan.full_payload_bytes(element_bytes);
  ledger.kv_bytes_shipped = plan.payload_bytes(element_bytes);
  return ledger;
}

}  // namespace winnow
