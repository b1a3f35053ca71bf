#include "router/client_tokens.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/read_file.h"
#include "common/retry_hint.h"
#include "common/status_macros.h"
#include "nlohmann/json.hpp"

namespace winnow {
namespace {

constexpr size_t kMinTokenBytes = 16;
constexpr absl::Duration kRetryAfter = absl::Seconds(1);

// The time does not depend on how much of a guess is right.
bool EqualInConstantTime(absl::string_view a, absl::string_view b) {
  if (a.size() != b.size()) return false;
  unsigned difference = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference |= static_cast<unsigned char>(a[i]) ^ static_cast<unsigned char>(b[i]);
  }
  return difference == 0;
}

struct ClientEntry {
  std::string name, token;
  ClientLimits limits;
};

absl::StatusOr<ClientEntry> ParseEntry(const nlohmann::json& json) {
  ClientEntry entry;
  const auto bad = [](const std::string& what) { return absl::InvalidArgumentError(what); };
  if (!json.is_object()) return bad("a client must be an object");
  for (const auto& [field, value] : json.items()) {
    const bool is_text = field == "name" || field == "token";
    const bool is_count = field == "max_requests" || field == "tokens_per_minute";
    if (is_text && !value.is_string()) return bad(field + " must be a string");
    if (is_count && !(value.is_number_integer() && value.get<int64_t>() >= 0)) {
      return bad(field + " must be a whole number of 0 or more");
    }
    if (field == "name") {
      entry.name = value.get<std::string>();
    } else if (field == "token") {
      entry.token = value.get<std::string>();
    } else if (field == "max_requests") {
      entry.limits.max_requests = value.get<int64_t>();
    } else if (field == "tokens_per_minute") {
      entry.limits.tokens_per_minute = value.get<int64_t>();
    } else if (field == "min_keep_ratio") {
      const double ratio = value.is_number() ? value.get<double>() : -1;
      if (!(ratio >= 0 && ratio <= 1)) return bad("min_keep_ratio must be in [0, 1]");
      entry.limits.min_keep_ratio = ratio;
    } else {
      return bad("unknown field '" + field + "'");
    }
  }
  if (entry.name.empty()) return bad("a client without a name");
  if (entry.token.size() >= kMinTokenBytes) return entry;
  return bad(absl::StrCat("the token of '", entry.name, "' must have at least ", kMinTokenBytes,
                          " bytes, has ", entry.token.size()));
}

absl::StatusOr<std::vector<ClientEntry>> ParseClients(const std::string& text) {
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) return absl::InvalidArgumentError("not JSON");
  if (!json.is_object() || json.size() != 1 || !json.contains("clients") ||
      !json["clients"].is_array()) {
    return absl::InvalidArgumentError("expected {\"clients\": [...]}");
  }
  std::vector<ClientEntry> clients;
  std::set<std::string> names, tokens;
  for (const nlohmann::json& each : json["clients"]) {
    WINNOW_ASSIGN_OR_RETURN(ClientEntry client, ParseEntry(each));
    if (!names.insert(client.name).second) {
      return absl::InvalidArgumentError("the name '" + client.name + "' is there twice");
    }
    if (!tokens.insert(client.token).second) {
      return absl::InvalidArgumentError("the token of '" + client.name + "' is another's, too");
    }
    clients.push_back(std::move(client));
  }
  return clients;
}

// A text that changes when the file is written; empty when the file cannot be read.
std::string VersionOf(const std::string& path) {
  if (access(path.c_str(), R_OK) != 0) return "";
  std::error_code error;
  const auto time = std::filesystem::last_write_time(path, error);
  if (error) return "";
  const auto size = std::filesystem::file_size(path, error);
  return error ? "" : absl::StrCat(time.time_since_epoch().count(), " ", size);
}

}  // namespace

Client::Client(std::string name, const ClientLimits& limits, const Clock& clock)
    : name_(std::move(name)),
      clock_(clock),
      limits_(limits),
      tokens_left_(static_cast<double>(limits.tokens_per_minute)),
      counted_(clock.Now()) {}

void Client::SetLimits(const ClientLimits& limits) {
  std::lock_guard<std::mutex> lock(mutex_);
  tokens_left_ += static_cast<double>(limits.tokens_per_minute - limits_.tokens_per_minute);
  limits_ = limits;
}

absl::Status Client::Begin() {
  std::lock_guard<std::mutex> lock(mutex_);
  if (limits_.max_requests == 0 || running_ < limits_.max_requests) {
    ++running_;
    return absl::OkStatus();
  }
  absl::Status refused = absl::ResourceExhaustedError(absl::StrCat(
      "client '", name_, "' runs ", running_, " requests, as many as its token allows"));
  SetRetryAfter(refused, kRetryAfter);
  return refused;
}

void Client::End() {
  std::lock_guard<std::mutex> lock(mutex_);
  --running_;
}

absl::Status Client::TakeTokens(int64_t count) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (limits_.tokens_per_minute == 0) return absl::OkStatus();
  if (count > limits_.tokens_per_minute) {
    return absl::InvalidArgumentError(
        absl::StrCat("the request counts ", count, " tokens, the token of client '", name_,
                     "' allows ", limits_.tokens_per_minute, " a minute"));
  }
  const auto most = static_cast<double>(limits_.tokens_per_minute);
  const absl::Time now = clock_.Now();
  const double minutes = absl::ToDoubleMinutes(now - counted_);
  tokens_left_ = std::min(most, tokens_left_ + minutes * most);
  counted_ = now;
  const double missing = static_cast<double>(count) - tokens_left_;
  if (missing <= 0) {
    tokens_left_ -= static_cast<double>(count);
    return absl::OkStatus();
  }
  absl::Status refused = absl::ResourceExhaustedError(
      absl::StrCat("client '", name_, "' has used its ", limits_.tokens_per_minute,
                   " tokens a minute: the request counts ", count));
  SetRetryAfter(refused, absl::Minutes(missing / most));
  return refused;
}

absl::Status Client::CheckKeepRatio(double ratio) const {
  std::lock_guard<std::mutex> lock(mutex_);
  if (ratio >= limits_.min_keep_ratio) return absl::OkStatus();
  return absl::PermissionDeniedError(absl::StrCat("the token of client '", name_,
                                                  "' allows keep ratios of ",
                                                  limits_.min_keep_ratio, " or more, got ", ratio));
}

absl::StatusOr<std::unique_ptr<ClientTokens>> ClientTokens::Load(const std::string& path,
                                                                 const Clock& clock) {
  auto tokens = std::unique_ptr<ClientTokens>(new ClientTokens(path, clock));
  WINNOW_RETURN_IF_ERROR(tokens->Reload());
  return tokens;
}

absl::Status ClientTokens::Reload() {
  const std::string version = VersionOf(path_);  // before reading, so that no change is missed
  {
    std::lock_guard<std::mutex> lock(mutex_);
    version_ = version;  // also of a bad file, which is reported once
  }
  const std::optional<std::string> text = ReadFile(path_);
  if (!text) return absl::InvalidArgumentError(absl::StrCat("client tokens: cannot read ", path_));
  const absl::StatusOr<std::vector<ClientEntry>> clients = ParseClients(*text);
  if (!clients.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("client tokens: ", path_, ": ", clients.status().message()));
  }
  std::lock_guard<std::mutex> lock(mutex_);
  std::vector<Entry> entries;
  for (const ClientEntry& each : *clients) {
    const auto known = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) {
      return entry.client->name() == each.name;
    });
    if (known == entries_.end()) {
      entries.push_back({each.token, std::make_shared<Client>(each.name, each.limits, clock_)});
    } else {
      known->client->SetLimits(each.limits);
      entries.push_back({each.token, known->client});
    }
  }
  entries_ = std::move(entries);
  return absl::OkStatus();
}

absl::Status ClientTokens::ReloadIfChanged() {
  const std::string version = VersionOf(path_);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (version == version_) return absl::OkStatus();
  }
  return Reload();
}

absl::StatusOr<std::shared_ptr<Client>> ClientTokens::Authenticate(
    absl::string_view authorization) const {
  if (!absl::ConsumePrefix(&authorization, "Bearer ")) {
    return absl::UnauthenticatedError(
        "expected a header authorization: Bearer …, with a client's token");
  }
  std::lock_guard<std::mutex> lock(mutex_);
  std::shared_ptr<Client> found;
  for (const Entry& entry : entries_) {  // always all of them, for equal time
    if (EqualInConstantTime(authorization, entry.token)) found = entry.client;
  }
  if (found == nullptr) return absl::UnauthenticatedError("no client has this token");
  return found;
}

}  // namespace winnow
