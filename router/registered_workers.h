#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "absl/status/statusor.h"
#include "common/clock.h"
#include "router/worker_source.h"

namespace winnow {

// Workers that registered themselves, each for the time of its lease. Thread-safe.
class RegisteredWorkers final : public WorkerSource {
 public:
  struct Options {
    // A lease is never shorter or longer than these.
    absl::Duration shortest_ttl = absl::Seconds(1);
    absl::Duration longest_ttl = absl::Minutes(2);
    size_t max_workers = 4096;
  };
  RegisteredWorkers(const Clock& clock, Options options) : clock_(clock), options_(options) {}

  // Gives the worker a lease, or renews the one it has; tells how long it lasts. An address belongs
  // to the process that registered it last. With a `ttl` of zero the lease of that process ends.
  // INVALID_ARGUMENT says which field of `info` is bad. RESOURCE_EXHAUSTED: too many workers.
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
