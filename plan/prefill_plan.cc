#include "plan/prefill_plan.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace winnow {
namespace {

absl::Status Refuse(int pass, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat("prefill plan: pass ", pass, " ", what));
}

absl::Status CheckRows(const PrefillPlan& plan, int index) {
  const PrefillPass& pass = plan.passes[index];
  const bool from_prompt = pass.source == PrefillPass::kPrompt;
  if (!from_prompt && (pass.source < 0 || pass.source >= index)) {
    return Refuse(index,
                  absl::StrCat("goes on from pass ", pass.source, ", which is not before it"));
  }
  const int64_t source_rows =
      from_prompt ? plan.kv.num_prompt_tokens : plan.passes[pass.source].num_rows;
  const bool rows_ok = pass.is_selected ? pass.num_rows >= 1 && pass.num_rows <= source_rows
                                        : pass.num_rows == source_rows;
  if (!rows_ok) {
    return Refuse(index, absl::StrCat("runs ", pass.num_rows, " rows of ", source_rows));
  }
  if (pass.is_renumbered && !from_prompt) {
    return Refuse(index, "renumbers rows that were rotated before");
  }
  return absl::OkStatus();
}

absl::Status CheckLayers(const PrefillPlan& plan, int index) {
  const PrefillPass& pass = plan.passes[index];
  const bool from_prompt = pass.source == PrefillPass::kPrompt;
  const int entry = from_prompt ? 0 : plan.passes[pass.source].last_layer;
  const int end = plan.kv.num_layers - 1;
  if (!from_prompt && plan.passes[pass.source].makes_logits) {
    return Refuse(index, "goes on behind the last layer");
  }
  if (pass.first_layer != entry || pass.last_layer < pass.first_layer || pass.last_layer > end) {
    return Refuse(index, absl::StrCat("runs layers ", pass.first_layer, "..", pass.last_layer,
                                      ", but enters at layer ", entry, " of ", end + 1));
  }
  if (pass.makes_logits && pass.last_layer != end) {
    return Refuse(index, absl::StrCat("makes logits behind layer ", pass.last_layer));
  }
  if (pass.first_scored_layer < pass.first_layer) {
    return Refuse(
        index, absl::StrCat("scores layer ", pass.first_scored_layer, ", which it does not run"));
  }
  if (pass.first_scored_layer <= pass.last_layer && !plan.is_pruned()) {
    return Refuse(index, "scores layers for no selection");
  }
  if (pass.is_selected && index > 0 && plan.passes[index - 1].makes_logits) {
    return Refuse(index, "is selected behind a pass with logits");
  }
  return absl::OkStatus();
}

// Each layer is stored by one pass, with as many entries as that pass has rows unless heads choose.
absl::Status CheckStored(const PrefillPlan& plan) {
  std::vector<int> stored(plan.kv.num_layers, 0);
  for (int index = 0; index < static_cast<int>(plan.passes.size()); ++index) {
    const PrefillPass& pass = plan.passes[index];
    if (!pass.stores_kv) continue;
    for (int layer = FirstKvLayer(pass); layer <= pass.last_layer; ++layer) {
      ++stored[layer];
      const KvSegment& segment = plan.kv.segment(layer);
      const bool scored = layer >= pass.first_scored_layer;
      // Heads choose among the positions of the whole prompt.
      const bool all_rows = pass.num_rows == plan.kv.num_prompt_tokens;
      const bool fits = segment.form == KvForm::kPerHead
                            ? scored && all_rows && segment.entries <= pass.num_rows
                            : segment.entries == pass.num_rows;
      if (!fits) {
        return Refuse(index, absl::StrCat("has ", pass.num_rows, " rows for the ", segment.entries,
                                          " entries of layer ", layer));
      }
    }
  }
  for (int layer = 0; layer < plan.kv.num_layers; ++layer) {
    if (stored[layer] != 1) {
      return absl::InvalidArgumentError(absl::StrCat(
          "prefill plan: layer ", layer, " is stored by ", stored[layer], " passes, expected one"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

bool PrefillPlan::is_pruned() const {
  return std::any_of(passes.begin(), passes.end(),
                     [](const PrefillPass& pass) { return pass.is_selected; });
}

int64_t PrefillPlan::num_kept() const {
  const auto token = std::find_if(passes.begin(), passes.end(),
                                  [](const PrefillPass& pass) { return pass.makes_logits; });
  return token == passes.end() ? kv.num_prompt_tokens : token->num_rows;
}

PrefillPlan UnprunedPlan(const ModelShape& shape, int64_t num_prompt_tokens) {
  PrefillPlan plan;
  plan.kv = EmptyKvPlan(shape, num_prompt_tokens);
  plan.kv.segments = {{shape.num_layers, KvForm::kAll, num_prompt_tokens}};
  plan.passes = {{.num_rows = num_prompt_tokens,
                  .last_layer = shape.num_layers - 1,
                  .first_scored_layer = shape.num_layers,
                  .stores_kv = true,
                  .makes_logits = true}};
  return plan;
}

int FirstKvLayer(const PrefillPass& pass) {
  return pass.source == PrefillPass::kPrompt ? pass.first_layer : pass.first_layer + 1;
}

int64_t ComputedTokenLayers(const PrefillPass& pass) {
  return pass.num_rows * (pass.last_layer - pass.first_layer) + (pass.makes_logits ? 1 : 0);
}

absl::Status CheckPrefillPlan(const PrefillPlan& plan) {
  int layers = 0;
  for (const KvSegment& segment : plan.kv.segments) layers += segment.num_layers;
  if (layers != plan.kv.num_layers) {
    return absl::InvalidArgumentError(absl::StrCat("prefill plan: the segments have ", layers,
                                                   " layers, the model ", plan.kv.num_layers));
  }
  for (int index = 0; index < static_cast<int>(plan.passes.size()); ++index) {
    WINNOW_RETURN_IF_ERROR(CheckRows(plan, index));
    WINNOW_RETURN_IF_ERROR(CheckLayers(plan, index));
  }
  if (plan.passes.empty() || !plan.passes.back().makes_logits) {
    return absl::InvalidArgumentError("prefill plan: the last pass makes no logits");
  }
  return CheckStored(plan);
}

}  // namespace winnow
