#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "absl/status/statusor.h"
#include "common/clock.h"
#include "router/worker_source.h"

namespace winnow {

// Workers that registered themselves; each is known until its lease ends. Thread-safe.
class RegisteredWorkers final : public WorkerSource {
 public:
  struct Options {
    // Bounds of a lease.
    absl::Duration shortest_ttl = absl::Seconds(1);
    absl::Duration longest_ttl = absl::Minutes(2);
    size_t max_workers = 4096;
  };
  // `clock` must outlive the object.
  RegisteredWorkers(const Clock& clock, Options options) : clock_(clock), options_(options) {}

  // Gives the worker a lease, or renews its lease; returns how long it lasts. An address belongs to
  // the process that registered it last, and a `ttl` of zero ends that process's lease.
  // INVALID_ARGUMENT names the bad field of `info`. RESOURCE_EXHAUSTED: too many workers.
  absl::StatusOr<absl::Duration> Register(const v1::WorkerInfo& info, absl::Duration ttl);

  std::vector<WorkerAddress> Workers() const override;

 private:
  struct Lease {
    WorkerAddress worker;
    uint64_t incarnation = 0;
    absl::Time end;
  };

  const Clock& clock_;
  const Options options_;
  mutable std::mutex mutex_;
  std::vector<Lease> leases_;  // in the order of the first registration
};

}  // namespace winnow
