#pragma once

#include <cstdint>

#include "engine/device/backend.h"

namespace winnow {

// Part of a request's stored KV that has become final in the request's staging memory
// (plan/kv_layout.h).
struct KvReady {
  int rank = 0;  // source rank; the part covers all KV heads that the rank ships
  int layer = 0;
  int64_t slot_begin = 0;  // entries [slot_begin, slot_end) of K and V of every head, positions too
                           // if the layer has any
  int64_t slot_end = 0;
};

// Where a prefill's KV goes. Called on rank threads, in queue order per rank; must not block. The
// part may be read once `event` is done.
class KvSink {
 public:
  virtual ~KvSink() = default;
  virtual void OnKvReady(const KvReady& part, EventPtr event) = 0;
};

}  // namespace winnow
