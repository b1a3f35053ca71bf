#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "router/request_driver.h"
#include "router/worker_registry.h"
#include "tests/router/fake_worker_source.h"
#include "tests/simulation/simulated_decode_worker.h"
#include "tests/simulation/simulated_network.h"
#include "tests/simulation/simulated_prefill_worker.h"

namespace winnow {

using PrefillWorkers = std::map<std::string, std::unique_ptr<SimulatedPrefillWorker>>;

// A router's calls, carried by the simulated network.
class SimulatedClients final : public WorkerClients {
 public:
  SimulatedClients(SimulatedNetwork& network, PrefillWorkers& prefill, DecodeWorkers& decode)
      : network_(network), prefill_(prefill), decode_(decode) {}

  std::shared_ptr<StreamCall> Prefill(const std::string& address, const v1::PrefillRequest& request,
                                      const CallScope& scope,
                                      StreamCallbacks<v1::PrefillResponse> callbacks) override;
  // Decode workers do not fail here, so nothing is sent again.
  std::shared_ptr<StreamCall> Resend(const std::string& address, const v1::ResendRequest& request,
                                     const CallScope& scope,
                                     StreamCallbacks<v1::ResendResponse> callbacks) override;
  std::shared_ptr<StreamCall> Decode(const std::string& address, const v1::DecodeRequest& request,
                                     const CallScope& scope,
                                     StreamCallbacks<v1::DecodeResponse> callbacks) override;
  void AbortDecode(const std::string& address, const std::string& reservation_id,
                   const std::string& reason) override;
  void GetInfo(const std::string& address, v1::WorkerRole role, Deadline deadline,
               std::function<void(absl::StatusOr<v1::WorkerInfo>)> done) override;

 private:
  SimulatedNetwork& network_;
  PrefillWorkers& prefill_;
  DecodeWorkers& decode_;
};

// A router without its service: the real registry and a real driver for every request. Knows the
// workers that there are when it is made.
class SimulatedRouter {
 public:
  SimulatedRouter(SimulatedNetwork& network, PrefillWorkers& prefill, DecodeWorkers& decode,
                  size_t first_rotation);

  std::shared_ptr<RequestDriver> Start(const v1::PrefillRequest& request, Deadline deadline,
                                       double jitter, DriverCallbacks callbacks);

 private:
  SimulatedNetwork& network_;
  SimulatedClients clients_;
  DriverEvents events_;
  FakeWorkerSource source_;
  WorkerRegistry registry_;
  const std::shared_ptr<WaitingRoom> waiting_room_;
};

}  // namespace winnow
