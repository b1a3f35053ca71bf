#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace winnow {

// A TCP address as flags and registries write it.
struct HostPort {
  std::string host;  // name, IPv4, or IPv6 without brackets
  int port = 0;      // 0 only for listening: any free one

  // "host:port", "[v6]:port".
  std::string ToString() const;
  friend bool operator==(const HostPort&, const HostPort&) = default;
};

// Reads "host:port" or "[v6]:port". INVALID_ARGUMENT quotes the text and says what is wrong: no
// port, a port that is not a number in [0, 65535], an empty host, an IPv6 address without brackets.
absl::StatusOr<HostPort> ParseHostPort(const std::string& text);
// The same for an address to listen on: a missing host ("8000", ":8000") is loopback.
absl::StatusOr<HostPort> ParseListenAddress(const std::string& text);

}  // namespace winnow
