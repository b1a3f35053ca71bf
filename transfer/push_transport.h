#pragma once

#include "transfer/kv_chunk.h"

namespace winnow {

// Carries the chunks of one handoff to the decode worker on numbered streams, each in order, and
// reports acknowledgements and failures to whoever opened it. Thread-safe; nothing blocks.
class PushTransport {
 public:
  virtual ~PushTransport() = default;

  // Must not call its sender back from inside. Called for different streams side by side. The
  // chunk's payload stays valid until the chunk is acknowledged or the transport has ended.
  virtual void Send(int stream, const KvChunk& chunk) = 0;
  // No more chunks will come: every chunk was acknowledged.
  virtual void Finish() = 0;
  // Gives up: drops what has not left yet.
  virtual void Cancel() = 0;
};

}  // namespace winnow
