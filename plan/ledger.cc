#include "plan/ledger.h"

namespace winnow {
namespace {

Ledger::Segment& SegmentOf(Ledger& ledger, KvForm form) {
  if (form == KvForm::kAll) return ledger.all;
  return form == KvForm::kPerHead ? ledger.per_head : ledger.selected;
}

}  // namespace

Ledger MakeLedger(const PrefillPlan& plan, int element_bytes) {
  const KvPlan& kv = plan.kv;
  Ledger ledger;
  ledger.prompt_tokens = kv.num_prompt_tokens;
  ledger.kept_tokens = plan.num_kept();
  for (const KvSegment& stored : kv.segments) {
    Ledger::Segment& segment = SegmentOf(ledger, stored.form);
    const int64_t heads = int64_t{stored.num_layers} * kv.num_kv_heads;
    segment.layers += stored.num_layers;
    segment.entries_kept += stored.entries * heads;
    segment.entries_pruned += (kv.num_prompt_tokens - stored.entries) * heads;
  }
  for (const PrefillPass& pass : plan.passes) {
    ledger.computed_token_layers += ComputedTokenLayers(pass);
  }
  ledger.kv_bytes_full = kv.full_payload_bytes(element_bytes);
  ledger.kv_bytes_shipped = kv.payload_bytes(element_bytes);
  return ledger;
}

}  // namespace winnow
