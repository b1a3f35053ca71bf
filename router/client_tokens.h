#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/clock.h"

namespace winnow {

// What a client may do; 0 means no limit.
struct ClientLimits {
  int64_t max_requests = 0;       // at a time
  int64_t tokens_per_minute = 0;  // prompt + max_tokens; a minute's worth may come at once
  double min_keep_ratio = 0;      // for pruned prompts
};

// The owner of a token, and what it has used of its limits. Thread-safe.
class Client {
 public:
  Client(std::string name, const ClientLimits& limits, const Clock& clock);

  const std::string& name() const { return name_; }
  // What the client has used counts against the new limits.
  void SetLimits(const ClientLimits& limits);

  // Counts a running request until End. RESOURCE_EXHAUSTED, with a retry hint: max_requests run.
  absl::Status Begin();
  void End();
  // Takes tokens off the client's rate. INVALID_ARGUMENT: more than a minute's worth.
  // RESOURCE_EXHAUSTED, with a hint that says when there will be enough.
  absl::Status TakeTokens(int64_t count);
  // PERMISSION_DENIED: below min_keep_ratio.
  absl::Status CheckKeepRatio(double ratio) const;

 private:
  const std::string name_;
  const Clock& clock_;
  mutable std::mutex mutex_;
  ClientLimits limits_;
  int64_t running_ = 0;
  double tokens_left_ = 0;
  absl::Time counted_;  // when tokens_left_ was computed
};

// The clients of a router, from a JSON file:
//   {"clients": [{"name": "search", "token": "…", "max_requests": 8, "tokens_per_minute": 500000,
//                 "min_keep_ratio": 0.05}, …]}
// Limits are optional. Thread-safe.
class ClientTokens {
 public:
  // INVALID_ARGUMENT names the file and the fault: unreadable, an unknown field, a token of less
  // than 16 bytes, a name or token twice. `clock` must outlive the clients.
  static absl::StatusOr<std::unique_ptr<ClientTokens>> Load(const std::string& path,
                                                            const Clock& clock);

  // Reads the file again if it was changed, created or removed since it was last read. Running
  // requests of removed clients go on. The errors are those of Load; they leave the clients as they
  // were, and the same file is not reported twice.
  absl::Status ReloadIfChanged();

  // The client whose token an "authorization" header ("Bearer …") carries. UNAUTHENTICATED: none.
  // The comparison takes equally long for every wrong token of one length.
  absl::StatusOr<std::shared_ptr<Client>> Authenticate(absl::string_view authorization) const;

 private:
  struct Entry {
    std::string token;
    std::shared_ptr<Client> client;
  };
  ClientTokens(std::string path, const Clock& clock) : path_(std::move(path)), clock_(clock) {}
  absl::Status Reload();

  const std::string path_;
  const Clock& clock_;
  mutable std::mutex mutex_;
  std::vector<Entry> entries_;
  std::string version_;  // time and size of the file when it was last read
};

}  // namespace winnow
