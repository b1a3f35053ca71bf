#include "common/resolver.h"

#include <netdb.h>
#include <sys/socket.h>

#include <memory>
#include <set>

#include "absl/strings/str_cat.h"

namespace winnow {
namespace {

using AddressList = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

std::set<std::string> Numbers(const addrinfo* list, int family) {
  std::set<std::string> numbers;
  for (const addrinfo* at = list; at != nullptr; at = at->ai_next) {
    char text[NI_MAXHOST];
    if (at->ai_family == family && getnameinfo(at->ai_addr, at->ai_addrlen, text, sizeof(text),
                                               nullptr, 0, NI_NUMERICHOST) == 0) {
      numbers.insert(text);
    }
  }
  return numbers;
}

}  // namespace

absl::StatusOr<std::vector<std::string>> SystemResolver::Resolve(const std::string& host) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host.c_str(), nullptr, &hints, &found);
  const AddressList list(found, &freeaddrinfo);
  if (error == EAI_NONAME || error == EAI_NODATA) return std::vector<std::string>{};
  if (error != 0) {
    return absl::UnavailableError(absl::StrCat("resolving ", host, ": ", gai_strerror(error)));
  }
  std::set<std::string> numbers = Numbers(list.get(), AF_INET);
  if (numbers.empty()) numbers = Numbers(list.get(), AF_INET6);
  return std::vector<std::string>(numbers.begin(), numbers.end());
}

}  // namespace winnow
