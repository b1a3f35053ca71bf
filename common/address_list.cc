#include "common/address_list.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/log.h"

namespace winnow {
namespace {

constexpr char kNamePrefix[] = "dns:///";

}  // namespace

absl::StatusOr<std::vector<std::string>> AddressList::Parse(const std::string& list) {
  std::vector<std::string> entries = absl::StrSplit(list, ',', absl::SkipEmpty());
  for (auto entry = entries.begin(); entry != entries.end(); ++entry) {
    const absl::StatusOr<HostPort> target =
        ParseHostPort(std::string(absl::StripPrefix(*entry, kNamePrefix)));
    if (!target.ok() || target->port == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("expected host:port or dns:///host:port, got '", *entry, "'"));
    }
    if (std::find(entries.begin(), entry, *entry) != entry) {
      return absl::InvalidArgumentError(absl::StrCat(*entry, " is there twice"));
    }
  }
  return entries;
}

AddressList::AddressList(const std::vector<std::string>& entries, Resolver& resolver,
                         absl::Duration period)
    : resolver_(resolver), period_(period) {
  bool any_name = false;
  for (const std::string& text : entries) {
    Entry entry{.target = *ParseHostPort(std::string(absl::StripPrefix(text, kNamePrefix))),
                .is_name = absl::StartsWith(text, kNamePrefix)};
    if (!entry.is_name) entry.addresses = {entry.target.ToString()};
    any_name |= entry.is_name;
    entries_.push_back(std::move(entry));
  }
  if (any_name) thread_ = std::thread([this] { ResolveLoop(); });
}

AddressList::~AddressList() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  stop_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void AddressList::ResolveLoop() {
  while (true) {
    for (Entry& entry : entries_) {
      if (entry.is_name) OnResolved(entry, resolver_.Resolve(entry.target.host));
    }
    std::unique_lock<std::mutex> lock(mutex_);
    if (stop_.wait_for(lock, absl::ToChronoMicroseconds(period_), [this] { return stopping_; }))
      return;
  }
}

void AddressList::OnResolved(Entry& entry, const absl::StatusOr<std::vector<std::string>>& hosts) {
  if (!hosts.ok()) {
    spdlog::warn("{}; its addresses stay as they were", std::string(hosts.status().message()));
    return;
  }
  std::vector<std::string> addresses;
  for (const std::string& host : *hosts) {
    addresses.push_back(HostPort{host, entry.target.port}.ToString());
  }
  std::lock_guard<std::mutex> lock(mutex_);
  if (addresses == entry.addresses) return;
  spdlog::info("{} is {}", entry.target.host,
               addresses.empty() ? "nobody" : absl::StrJoin(addresses, ", "));
  entry.addresses = std::move(addresses);
}

std::vector<std::string> AddressList::Addresses() const {
  std::lock_guard<std::mutex> lock(mutex_);
  std::vector<std::string> all;
  for (const Entry& entry : entries_) {
    for (const std::string& address : entry.addresses) {
      if (std::find(all.begin(), all.end(), address) == all.end()) all.push_back(address);
    }
  }
  return all;
}

}  // namespace winnow
