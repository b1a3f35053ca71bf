#include "common/host_port.h"

#include <algorithm>
#include <cctype>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace winnow {
namespace {

absl::Status Bad(const std::string& text, const std::string& why) {
  return absl::InvalidArgumentError(
      absl::StrCat("address '", text, "': ", why, "; expected host:port or [v6]:port"));
}

absl::StatusOr<int> ParsePort(const std::string& text, const std::string& port) {
  const bool digits =
      !port.empty() && port.size() <= 5 &&
      std::all_of(port.begin(), port.end(), [](unsigned char c) { return std::isdigit(c) != 0; });
  int value = 0;
  if (!digits || !absl::SimpleAtoi(port, &value) || value > 65535) {
    return Bad(text, absl::StrCat("port '", port, "' is not a number in [0, 65535]"));
  }
  return value;
}

}  // namespace

std::string HostPort::ToString() const {
  const bool is_v6 = host.find(':') != std::string::npos;
  return is_v6 ? absl::StrCat("[", host, "]:", port) : absl::StrCat(host, ":", port);
}

absl::StatusOr<HostPort> ParseHostPort(const std::string& text) {
  HostPort out;
  size_t colon = std::string::npos;
  if (!text.empty() && text.front() == '[') {
    const size_t close = text.find(']');
    if (close == std::string::npos) return Bad(text, "'[' without ']'");
    out.host = text.substr(1, close - 1);
    if (close + 1 < text.size() && text[close + 1] == ':') colon = close + 1;
  } else {
    colon = text.rfind(':');
    if (colon != std::string::npos) out.host = text.substr(0, colon);
    if (out.host.find(':') != std::string::npos)
      return Bad(text, "more than one ':' without brackets");
  }
  if (colon == std::string::npos) return Bad(text, "no port");
  if (out.host.empty()) return Bad(text, "no host");
  const auto port = ParsePort(text, text.substr(colon + 1));
  if (!port.ok()) return port.status();
  out.port = *port;
  return out;
}

absl::StatusOr<HostPort> ParseListenAddress(const std::string& text) {
  constexpr char kLoopback[] = "127.0.0.1";
  if (!text.empty() && text.front() == ':') return ParseHostPort(absl::StrCat(kLoopback, text));
  if (!text.empty() && text.find_first_not_of("0123456789") == std::string::npos) {
    return ParseHostPort(absl::StrCat(kLoopback, ":", text));
  }
  return ParseHostPort(text);
}

}  // namespace winnow
