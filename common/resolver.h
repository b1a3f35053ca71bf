#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace winnow {

// Turns a host name into addresses. Faked in tests.
class Resolver {
 public:
  virtual ~Resolver() = default;
  // The name's addresses as numbers, without port, ascending, each once; none when no such name
  // exists. UNAVAILABLE: nobody could tell. May block for seconds.
  virtual absl::StatusOr<std::vector<std::string>> Resolve(const std::string& host) = 0;
};

// The system's getaddrinfo. A name with addresses of both kinds gives the IPv4 ones only, so that a
// machine that has both is not taken for two.
class SystemResolver final : public Resolver {
 public:
  absl::StatusOr<std::vector<std::string>> Resolve(const std::string& host) override;
};

}  // namespace winnow
