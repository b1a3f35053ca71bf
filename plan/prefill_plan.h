#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "plan/kv_plan.h"

namespace winnow {

// One walk of prompt rows through neighbouring layers. A pass without logits ends with the K,V of
// its last layer; a later pass goes on from there, with all of its rows or with those that a
// selection chose.
struct PrefillPass {
  static constexpr int kPrompt = -1;

  // The pass whose rows go on, from the attention of its last layer on: that layer's K,V stand
  // already. kPrompt: the rows enter layer 0 as embeddings, and all K,V are made here.
  int source = kPrompt;
  // Whether a selection chose the rows out of the source's; else they are all of them.
  bool is_selected = false;
  int64_t num_rows = 0;
  // The rows take the positions 0..num_rows−1; else they keep those of the prompt. Only for passes
  // from kPrompt: other rows are rotated already.
  bool is_renumbered = false;
  int first_layer = 0;
  int last_layer = 0;  // inclusive
  // Layers first_scored_layer..last_layer are scored as their keys become complete; past
  // last_layer: none is.
  int first_scored_layer = 0;
  // K,V that the pass makes are what the prompt's KV plan stores of their layers.
  bool stores_kv = false;
  // The pass ends behind the last layer of the model, which computes the last row alone, and gives
  // the logits of that row.
  bool makes_logits = false;

  friend bool operator==(const PrefillPass&, const PrefillPass&) = default;
};

// How one prompt is computed and what it stores: a pure function of the model's shape, the
// selection config and N, made by the config's policy (plan/policy.h) and nowhere else.
struct PrefillPlan {
  KvPlan kv;
  std::vector<PrefillPass> passes;  // in the order in which they run

  // Whether some rows are left out somewhere.
  bool is_pruned() const;
  // Rows of the pass that gives token 0: C, or N when nothing is pruned.
  int64_t num_kept() const;

  friend bool operator==(const PrefillPlan&, const PrefillPlan&) = default;
};

// Every row through every layer, all of it stored: what policies return for prompts that they do
// not prune.
PrefillPlan UnprunedPlan(const ModelShape& shape, int64_t num_prompt_tokens);

// The first layer whose K,V `pass` makes: the one after first_layer where rows go on from another
// pass.
int FirstKvLayer(const PrefillPass& pass);
// Token-layers of `pass` whose attention and feed-forward run; the K,V of a last layer without
// logits are not counted.
int64_t ComputedTokenLayers(const PrefillPass& pass);

// INVALID_ARGUMENT says what contradicts itself: a source that comes later, more rows than the
// source has, a layer that no pass or several passes store, segments that do not fit the passes, no
// logits at the end. The engine relies on what is checked here.
absl::Status CheckPrefillPlan(const PrefillPlan& plan);

}  // namespace winnow
