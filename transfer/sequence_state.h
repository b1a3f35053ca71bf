#pragma once

namespace winnow {

// The states of a sequence on a decode worker, from its reservation to its end. The diagram in
// decode_worker/decode_core.h says which call leads from one to another.
enum class SequenceState {
  kReserved,   // its KV memory is reserved, nothing has come
  kReceiving,  // chunks come
  kDecoding,   // committed: its tokens are made
  // Ended. Its KV memory is free, its late callers still get the right answer.
  kFinished,  // the last token was made
  kAborted,   // its prefill worker gave it up, or, after the commit, its reader or router did
  kExpired,   // its lease was not renewed
  kFailed,    // damage, a broken protocol, a refused commit; or a decode step, a deadline
};

// Whether KV may still come.
constexpr bool IsOpen(SequenceState state) {
  return state == SequenceState::kReserved || state == SequenceState::kReceiving;
}
// Whether it holds KV memory.
constexpr bool IsLive(SequenceState state) {
  return IsOpen(state) || state == SequenceState::kDecoding;
}

}  // namespace winnow
