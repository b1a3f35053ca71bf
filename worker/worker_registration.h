#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "common/address_list.h"
#include "common/clock.h"
#include "grpcpp/channel.h"
#include "rpc/tls.h"
#include "winnow/v1/registry.pb.h"

namespace winnow {

// Keeps a worker registered with every router of a list, from a thread of its own: renews each
// lease three times before it ends, sooner after a failure. A router that is away costs the others
// nothing. The destructor leaves them all.
class WorkerRegistration {
 public:
  struct Options {
    v1::WorkerInfo info;  // with the advertised address
    absl::Duration ttl = absl::Seconds(10);
    absl::Duration retry = absl::Seconds(1);
    TlsFiles tls;
  };
  // Both must outlive it.
  WorkerRegistration(const AddressList& routers, const Clock& clock, Options options);
  ~WorkerRegistration();
  WorkerRegistration(const WorkerRegistration&) = delete;
  WorkerRegistration& operator=(const WorkerRegistration&) = delete;

 private:
  void RenewLoop();
  // Asks all routers at the same time and waits for their answers; whether all took it.
  bool RegisterEverywhere(absl::Duration ttl, absl::Duration timeout);
  std::shared_ptr<grpc::Channel> Channel(const std::string& router);
  void Note(const std::string& router, const absl::Status& status);

  const AddressList& routers_;
  const Clock& clock_;
  const Options options_;
  // Only the thread touches them: the last owner of a channel must not be a gRPC callback.
  std::map<std::string, std::shared_ptr<grpc::Channel>> channels_;
  std::map<std::string, absl::Status> last_;  // what each router said
  std::mutex mutex_;
  std::condition_variable stop_;
  bool stopping_ = false;
  std::thread thread_;
};

// What a worker advertises: `advertise`, or the address that it listens on. INVALID_ARGUMENT: no
// host:port, or an address that nobody can connect to, such as 0.0.0.0.
absl::StatusOr<std::string> AdvertisedAddress(const std::string& advertise,
                                              const std::string& listening);

}  // namespace winnow
