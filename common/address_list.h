#pragma once

#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "common/host_port.h"
#include "common/resolver.h"

namespace winnow {

// Addresses as a flag lists them. An entry "host:port" is one address for ever, whatever the name
// stands for. An entry "dns:///host:port" is every address that the name has, asked again all the
// time: a name that does not exist has none, and when nobody can tell, the last answer stays.
// Thread-safe.
class AddressList {
 public:
  // Reads entries separated by commas. INVALID_ARGUMENT quotes the entry: no address, port 0, or
  // there twice.
  static absl::StatusOr<std::vector<std::string>> Parse(const std::string& list);

  // `entries` came from Parse. The resolver must outlive the list and is called on a thread of the
  // list's own, at once and then every `period`; without names there is no thread. The destructor
  // waits for a call under way.
  AddressList(const std::vector<std::string>& entries, Resolver& resolver, absl::Duration period);
  ~AddressList();
  AddressList(const AddressList&) = delete;
  AddressList& operator=(const AddressList&) = delete;

  // host:port of each, in the order of the entries, each once; no names before they were resolved.
  std::vector<std::string> Addresses() const;

 private:
  struct Entry {
    HostPort target;
    bool is_name = false;
    std::vector<std::string> addresses;  // host:port
  };
  void ResolveLoop();
  void OnResolved(Entry& entry, const absl::StatusOr<std::vector<std::string>>& hosts);

  Resolver& resolver_;
  const absl::Duration period_;
  mutable std::mutex mutex_;
  std::condition_variable stop_;
  bool stopping_ = false;
  std::vector<Entry> entries_;  // the lock guards their addresses
  std::thread thread_;
};

}  // namespace winnow
