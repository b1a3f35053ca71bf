#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "router/front_door.h"

namespace winnow {

// What the command line says about a router.
struct RouterConfig {
  std::string listen;
  std::string model_dir;
  std::vector<std::string> prefill_workers, decode_workers;  // entries of an AddressList
  absl::Duration resolve_period;
  bool accept_registrations = false;
  bool expects_decode = true;  // ready only with a decode worker
  int chat_window_offset = -1;
  std::string client_tokens;  // the file; empty: everybody may call
  FrontDoor::Options front_door;
  size_t max_waiting = 0;
  int tokenizer_threads = 0;
  absl::Duration drain_timeout;
};

// Reads the flags of winnow-router. INVALID_ARGUMENT names a flag whose value is bad.
absl::StatusOr<RouterConfig> RouterConfigFromFlags();

}  // namespace winnow
