#include "router/registered_workers.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/host_port.h"
#include "common/status_macros.h"

namespace winnow {
namespace {

absl::Status CheckInfo(const v1::WorkerInfo& info) {
  WINNOW_ASSIGN_OR_RETURN(const HostPort address, ParseHostPort(info.address()));
  if (address.port == 0) {
    return absl::InvalidArgumentError("register: info.address: nobody can connect to port 0");
  }
  if (info.role() != v1::WORKER_ROLE_PREFILL && info.role() != v1::WORKER_ROLE_DECODE) {
    return absl::InvalidArgumentError(
        absl::StrCat("register: info.role must be prefill or decode, got ", info.role()));
  }
  if (info.incarnation() == 0) {
    return absl::InvalidArgumentError("register: info.incarnation must not be 0");
  }
  if (info.layout_digest().empty()) {
    return absl::InvalidArgumentError("register: info.layout_digest is empty");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<absl::Duration> RegisteredWorkers::Register(const v1::WorkerInfo& info,
                                                           absl::Duration ttl) {
  WINNOW_RETURN_IF_ERROR(CheckInfo(info));
  std::lock_guard<std::mutex> lock(mutex_);
  const absl::Time now = clock_.Now();
  leases_.erase(std::remove_if(leases_.begin(), leases_.end(),
                               [&](const Lease& lease) { return lease.end <= now; }),
                leases_.end());
  auto lease = std::find_if(leases_.begin(), leases_.end(), [&](const Lease& other) {
    return other.worker.address == info.address();
  });
  if (ttl <= absl::ZeroDuration()) {
    if (lease != leases_.end() && lease->incarnation == info.incarnation()) leases_.erase(lease);
    return absl::ZeroDuration();
  }
  if (lease == leases_.end()) {
    if (leases_.size() >= options_.max_workers) {
      return absl::ResourceExhaustedError(
          absl::StrCat("register: at most ", options_.max_workers, " workers"));
    }
    lease = leases_.emplace(leases_.end());
  }
  const absl::Duration given = std::clamp(ttl, options_.shortest_ttl, options_.longest_ttl);
  *lease = {{info.address(), info.role()}, info.incarnation(), now + given};
  return given;
}

std::vector<WorkerAddress> RegisteredWorkers::Workers() const {
  std::lock_guard<std::mutex> lock(mutex_);
  const absl::Time now = clock_.Now();
  std::vector<WorkerAddress> workers;
  for (const Lease& lease : leases_) {
    if (lease.end > now) workers.push_back(lease.worker);
  }
  return workers;
}

}  // namespace winnow
