#include "tests/simulation/simulated_router.h"

#include <utility>

namespace winnow {
namespace {

class Call final : public StreamCall {
 public:
  explicit Call(std::function<void()> cancel) : cancel_(std::move(cancel)) {}
  void Cancel() override { cancel_(); }

 private:
  const std::function<void()> cancel_;
};

template <typename Worker>
std::vector<std::string> AddressesOf(const std::map<std::string, Worker>& workers) {
  std::vector<std::string> addresses;
  for (const auto& [address, worker] : workers) addresses.push_back(address);
  return addresses;
}

// Callbacks whose words travel to where `to` listens.
template <typename Response>
StreamCallbacks<Response> Over(SimulatedNetwork& network, StreamCallbacks<Response> to) {
  return {.message =
              [&network, to](const Response& message) {
                network.Send([to, message] { to.message(message); });
              },
          .ended =
              [&network, to](const absl::Status& status) {
                network.Send([to, status] { to.ended(status); });
              }};
}

}  // namespace

std::shared_ptr<StreamCall> SimulatedClients::Prefill(
    const std::string& address, const v1::PrefillRequest& request, const CallScope& scope,
    StreamCallbacks<v1::PrefillResponse> callbacks) {
  SimulatedPrefillWorker& worker = *prefill_.at(address);
  const auto stop = std::make_shared<std::shared_ptr<StopFlag>>();  // known on arrival
  network_.Send(
      [&worker, request, deadline = scope.deadline, stop, reply = Over(network_, callbacks)] {
        *stop = worker.Prefill(request, deadline, reply);
      });
  return std::make_shared<Call>([&network = network_, &worker, stop] {
    network.Send([&worker, stop] {
      (*stop)->Stop(absl::StatusCode::kCancelled);
      worker.scheduler().Wake();
    });
  });
}

std::shared_ptr<StreamCall> SimulatedClients::Resend(
    const std::string&, const v1::ResendRequest&, const CallScope&,
    StreamCallbacks<v1::ResendResponse> callbacks) {
  network_.Send([callbacks] { callbacks.ended(absl::NotFoundError("nothing is retained")); });
  return std::make_shared<Call>([] {});
}

std::shared_ptr<StreamCall> SimulatedClients::Decode(
    const std::string& address, const v1::DecodeRequest& request, const CallScope& scope,
    StreamCallbacks<v1::DecodeResponse> callbacks) {
  SimulatedDecodeWorker& worker = *decode_.at(address);
  const auto number = std::make_shared<int64_t>(0);  // known on arrival
  network_.Send(
      [&worker, request, deadline = scope.deadline, number, reply = Over(network_, callbacks)] {
        DecodeSubscriber subscriber;
        subscriber.token = [reply](const DecodedToken& token) {
          v1::DecodeResponse response;
          response.set_index(token.index);
          response.set_id(token.id);
          response.set_is_last(token.is_last);
          response.set_is_stop(token.is_stop);
          reply.message(response);
        };
        subscriber.ended = reply.ended;
        *number = worker.core().Subscribe({.reservation_id = request.reservation_id(),
                                           .request_id = request.request_id(),
                                           .attempt = request.attempt(),
                                           .from_index = request.from_index(),
                                           .deadline = deadline},
                                          std::move(subscriber));
      });
  return std::make_shared<Call>(
      [&network = network_, &worker, number, id = request.reservation_id()] {
        network.Send([&worker, number, id] { worker.core().Unsubscribe(id, *number); });
      });
}

void SimulatedClients::AbortDecode(const std::string& address, const std::string& reservation_id,
                                   const std::string&) {
  SimulatedDecodeWorker& worker = *decode_.at(address);
  network_.Send([&worker, reservation_id] { worker.core().Cancel(reservation_id); });
}

void SimulatedClients::GetInfo(const std::string& address, v1::WorkerRole role, Deadline,
                               std::function<void(absl::StatusOr<v1::WorkerInfo>)> done) {
  network_.Send([this, address, role, done = std::move(done)] {
    const v1::WorkerInfo info = role == v1::WORKER_ROLE_PREFILL ? prefill_.at(address)->Info()
                                                                : decode_.at(address)->Info();
    network_.Send([done, info] { done(info); });
  });
}

SimulatedRouter::SimulatedRouter(SimulatedNetwork& network, PrefillWorkers& prefill,
                                 DecodeWorkers& decode, size_t first_rotation)
    : network_(network),
      clients_(network, prefill, decode),
      source_(AddressesOf(prefill), AddressesOf(decode)),
      registry_(clients_, network.clock(), {&source_}, {.first_rotation = first_rotation}),
      waiting_room_(std::make_shared<WaitingRoom>(network.clock(), network.clock(),
                                                  RequestQueue::Options{})) {}

std::shared_ptr<RequestDriver> SimulatedRouter::Start(const v1::PrefillRequest& request,
                                                      Deadline deadline, double jitter,
                                                      DriverCallbacks callbacks) {
  auto driver = std::make_shared<RequestDriver>(
      request, deadline,
      RequestDriver::Parts{clients_, registry_, network_.clock(), network_.clock(), events_},
      std::move(callbacks),
      RequestDriver::Options{.jitter = jitter, .waiting_room = waiting_room_});
  driver->Start();
  return driver;
}

}  // namespace winnow
