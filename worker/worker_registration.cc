#include "worker/worker_registration.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <iterator>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/log.h"
#include "common/status_macros.h"
#include "rpc/channel.h"
#include "rpc/grpc_deadline.h"
#include "rpc/grpc_status.h"
#include "winnow/v1/registry.grpc.pb.h"

namespace winnow {
namespace {

constexpr absl::Duration kLeaveTimeout = absl::Seconds(1);

struct Call {
  std::string router;
  grpc::ClientContext context;
  v1::RegisterRequest request;
  v1::RegisterResponse response;
  absl::Status status;
};

// Calls under way at the same time; whoever started them waits for all of them.
struct Round {
  std::mutex mutex;
  std::condition_variable all_done;
  size_t running = 0;
};

}  // namespace

WorkerRegistration::WorkerRegistration(const AddressList& routers, const Clock& clock,
                                       Options options)
    : routers_(routers), clock_(clock), options_(std::move(options)) {
  thread_ = std::thread([this] { RenewLoop(); });
}

WorkerRegistration::~WorkerRegistration() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  stop_.notify_all();
  thread_.join();
}

void WorkerRegistration::RenewLoop() {
  const absl::Duration period = options_.ttl / 3;
  while (true) {
    const bool all_took_it = RegisterEverywhere(options_.ttl, period);
    const absl::Duration pause = all_took_it ? period : std::min(period, options_.retry);
    std::unique_lock<std::mutex> lock(mutex_);
    if (stop_.wait_for(lock, absl::ToChronoMicroseconds(pause), [this] { return stopping_; }))
      break;
  }
  RegisterEverywhere(absl::ZeroDuration(), kLeaveTimeout);
}

bool WorkerRegistration::RegisterEverywhere(absl::Duration ttl, absl::Duration timeout) {
  Round round;
  std::vector<std::unique_ptr<Call>> calls;
  const std::vector<std::string> routers = routers_.Addresses();
  for (const std::string& router : routers) {
    calls.push_back(std::make_unique<Call>());
    Call& call = *calls.back();
    call.router = router;
    *call.request.mutable_info() = options_.info;
    call.request.set_ttl_ms(absl::ToInt64Milliseconds(ttl));
    SetDeadline(call.context, Deadline::After(clock_, timeout), clock_);
  }
  round.running = calls.size();
  for (const std::unique_ptr<Call>& owned : calls) {
    Call& call = *owned;
    v1::WorkerRegistryService::NewStub(Channel(call.router))
        ->async()
        ->Register(&call.context, &call.request, &call.response,
                   [&call, &round](const grpc::Status& status) {
                     call.status = FromGrpcStatus(status, call.context);
                     std::lock_guard<std::mutex> lock(round.mutex);
                     if (--round.running == 0) round.all_done.notify_all();
                   });
  }
  std::unique_lock<std::mutex> lock(round.mutex);
  round.all_done.wait(lock, [&] { return round.running == 0; });  // each has its deadline
  bool all_took_it = true;
  for (const std::unique_ptr<Call>& call : calls) {
    all_took_it &= call->status.ok();
    if (ttl > absl::ZeroDuration()) Note(call->router, call->status);
  }
  // Routers that left the list.
  for (auto it = channels_.begin(); it != channels_.end();) {
    const bool listed = std::find(routers.begin(), routers.end(), it->first) != routers.end();
    it = listed ? std::next(it) : channels_.erase(it);
  }
  return all_took_it;
}

std::shared_ptr<grpc::Channel> WorkerRegistration::Channel(const std::string& router) {
  std::shared_ptr<grpc::Channel>& channel = channels_[router];
  if (channel == nullptr) {
    const auto made = MakeChannel(router, {.tls = options_.tls});
    // A lame channel answers UNAVAILABLE.
    channel =
        made.ok() ? *made : grpc::CreateChannel("invalid:", grpc::InsecureChannelCredentials());
  }
  return channel;
}

// Logs what is new.
void WorkerRegistration::Note(const std::string& router, const absl::Status& status) {
  const auto [it, is_first] = last_.try_emplace(router, status);
  if (!is_first && it->second.code() == status.code()) return;
  it->second = status;
  if (status.ok()) {
    spdlog::info("registered with router {} as {}", router, options_.info.address());
  } else {
    spdlog::warn("router {} does not take the registration: {}", router, status.ToString());
  }
}

absl::StatusOr<std::string> AdvertisedAddress(const std::string& advertise,
                                              const std::string& listening) {
  const std::string& address = advertise.empty() ? listening : advertise;
  WINNOW_ASSIGN_OR_RETURN(const HostPort target, ParseHostPort(address));
  if (target.port == 0 || target.host == "0.0.0.0" || target.host == "::") {
    return absl::InvalidArgumentError(absl::StrCat("--advertise: nobody can connect to ", address,
                                                   "; give the address that others reach"));
  }
  return target.ToString();
}

}  // namespace winnow
