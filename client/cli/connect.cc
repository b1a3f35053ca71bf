#include "client/cli/connect.h"

#include <cstdlib>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/read_file.h"

namespace winnow {

const std::vector<std::string>& ConnectValues() {
  static const auto& values = *new std::vector<std::string>{
      "address", "token-file", "tls-ca", "tls-server-name", "tls-cert", "tls-key", "traceparent"};
  return values;
}

absl::StatusOr<std::unique_ptr<WinnowClient>> Connect(const Args& args) {
  ClientOptions options;
  if (const char* token = std::getenv("WINNOW_TOKEN"); token != nullptr) options.token = token;
  if (const std::string file = args.Get("token-file"); !file.empty()) {
    const std::optional<std::string> text = ReadFile(file);
    options.token = text ? std::string(absl::StripAsciiWhitespace(*text)) : "";
    if (options.token.empty()) {
      return absl::InvalidArgumentError(absl::StrCat("--token-file: no token in ", file));
    }
  }
  options.tls = {args.Get("tls-cert"), args.Get("tls-key"), args.Get("tls-ca"),
                 args.Get("tls-server-name")};
  options.traceparent = args.Get("traceparent");
  return WinnowClient::Create(args.Get("address", "127.0.0.1:50050"), options);
}

}  // namespace winnow
