#pragma once

#include <string>
#include <vector>

#include "common/address_list.h"
#include "router/worker_source.h"

namespace winnow {

// The workers that flags list: by address, or by a name that resolves to addresses.
class StaticWorkers final : public WorkerSource {
 public:
  // `prefill` and `decode` are entries of an AddressList. `resolver` must outlive the object.
  StaticWorkers(const std::vector<std::string>& prefill, const std::vector<std::string>& decode,
                Resolver& resolver, absl::Duration resolve_period)
      : prefill_(prefill, resolver, resolve_period), decode_(decode, resolver, resolve_period) {}

  std::vector<WorkerAddress> Workers() const override {
    std::vector<WorkerAddress> workers;
    for (const std::string& address : prefill_.Addresses()) {
      workers.push_back({address, v1::WORKER_ROLE_PREFILL});
    }
    for (const std::string& address : decode_.Addresses()) {
      workers.push_back({address, v1::WORKER_ROLE_DECODE});
    }
    return workers;
  }

 private:
  const AddressList prefill_, decode_;
};

}  // namespace winnow
