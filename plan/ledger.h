#pragma once

#include <cstdint>

#include "plan/prefill_plan.h"

namespace winnow {

// What was computed, kept and shipped for one request. Every figure follows from the KV plan or was
// counted.
struct Ledger {
  // K,V entries, summed over the layers and KV heads of a segment: kept + pruned = N · layers ·
  // heads.
  struct Segment {
    int64_t layers = 0;
    int64_t entries_kept = 0;
    int64_t entries_pruned = 0;
    friend bool operator==(const Segment&, const Segment&) = default;
  };

  int64_t prompt_tokens = 0;          // N
  int64_t kept_tokens = 0;            // C, or N
  int64_t computed_token_layers = 0;  // Σ over layers of the rows whose attention and MLP ran
  Segment all;                        // layers that keep everything
  Segment per_head;                   // layers compacted per KV head
  Segment selected;                   // layers that hold selected tokens, the same for all heads
  int64_t kv_bytes_full = 0;          // unique K+V payload of an unpruned run
  int64_t kv_bytes_shipped =
      0;  // unique K+V payload of this run, without positions, framing, retries

  friend bool operator==(const Ledger&, const Ledger&) = default;
};

// The ledger that `plan` implies; `element_bytes` is the size of one stored K or V element.
Ledger MakeLedger(const PrefillPlan& plan, int element_bytes);

// Seconds of each stage on the critical path of token 0, summed over a request's chunks. 0 =
// skipped.
struct StageTimes {
  double tokenize = 0, admit = 0, dispatch = 0, queue = 0, reserve_wait = 0;
  double full_layers = 0, score = 0, allreduce = 0, select = 0, pruned_layers = 0, head = 0;
  double relay = 0;
};

}  // namespace winnow
