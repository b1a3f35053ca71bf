#pragma once

#include <cstdint>

#include "engine/device/backend.h"
#include "engine/kv/kv_staging.h"
#include "engine/kv_sink.h"
#include "engine/prefill_state.h"

namespace winnow {

// Where one sequence's stored KV goes on one rank. No staging: nothing is stored.
struct KvDestination {
  const KvStaging::Rank* staging = nullptr;
  KvSink* sink = nullptr;
};

// Copies K,V that have become final out of the device, beside its queue, and tells the sink. All
// calls enqueue and return.
class KvShipper {
 public:
  KvShipper(int rank, Backend& backend) : rank_(rank), backend_(backend) {}

  // Rows [begin, end) of a layer that stores every row of `pass`.
  void ShipRows(PrefillState& state, int pass, int layer, int64_t begin, int64_t end,
                const KvDestination& to) const;
  // A layer whose heads choose their entries, once the selector has: gathered by each head's list.
  void ShipHeadEntries(PrefillState& state, int pass, int layer, const KvDestination& to) const;

 private:
  const int rank_;
  Backend& backend_;
};

}  // namespace winnow
