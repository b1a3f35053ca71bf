#include "router/front_door.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/retry_hint.h"
#include "common/status_macros.h"

namespace winnow {

TraceContext FrontDoor::SpanOf(std::string_view traceparent) {
  const auto callers = TraceContext::Parse(traceparent);
  return (callers ? *callers : TraceContext::New()).Child();
}

absl::StatusOr<std::shared_ptr<Client>> FrontDoor::Authenticate(
    const std::string& authorization) const {
  if (tokens_ == nullptr) return nullptr;
  return tokens_->Authenticate(authorization);
}

absl::StatusOr<RequestSlot> FrontDoor::Admit(Arrival arrival) {
  absl::StatusOr<std::shared_ptr<Client>> client = Authenticate(arrival.authorization);
  if (!client.ok()) {
    parts_.metrics.OnRejected(Rejection::kUnauthenticated);
    return client.status();
  }
  // The client's own limit comes first: its refusal says more than the router's.
  if (*client != nullptr) {
    if (const absl::Status begun = (*client)->Begin(); !begun.ok()) {
      parts_.metrics.OnRejected(Rejection::kClientLimit);
      return begun;
    }
  }
  const int64_t bytes = arrival.bytes;
  if (const absl::Status refused = AcquireSlot(bytes); !refused.ok()) {
    if (*client != nullptr) (*client)->End();
    return refused;
  }
  const Deadline longest = Deadline::After(parts_.clock, options_.default_timeout);
  RequestSlot::Terms terms{.client = *client,
                           .deadline = arrival.deadline.Earlier(longest),
                           .trace = std::move(arrival.trace),
                           .bytes = bytes};
  return RequestSlot(std::move(terms), [this, client = *std::move(client), bytes] {
    if (client != nullptr) client->End();
    ReleaseSlot(bytes);
  });
}

std::shared_ptr<Generation> FrontDoor::Start(v1::GenerateRequest request, RequestSlot slot,
                                             GenerationSink sink) {
  auto generation = std::make_shared<Generation>(parts_, options_.generation, std::move(request),
                                                 std::move(slot), std::move(sink));
  executor_.Add([generation] { generation->Begin(); });
  return generation;
}

void FrontDoor::Drain() {
  std::lock_guard<std::mutex> lock(mutex_);
  draining_ = true;
}

int64_t FrontDoor::num_running() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return num_running_;
}

absl::Status FrontDoor::AcquireSlot(int64_t bytes) {
  absl::Status refused;
  std::lock_guard<std::mutex> lock(mutex_);
  if (draining_) {
    parts_.metrics.OnRejected(Rejection::kDraining);
    refused = absl::UnavailableError("the router is draining");
  } else if (num_running_ >= options_.max_running) {
    parts_.metrics.OnRejected(Rejection::kOverload);
    refused = absl::ResourceExhaustedError(
        absl::StrCat("the router runs ", options_.max_running, " requests, as many as it may"));
  } else if (running_bytes_ + bytes > options_.max_running_bytes) {
    parts_.metrics.OnRejected(Rejection::kOverload);
    refused = absl::ResourceExhaustedError(
        absl::StrCat("the router runs requests of ", running_bytes_, " bytes, with this one of ",
                     bytes, " it would have more than ", options_.max_running_bytes));
  } else {
    ++num_running_;
    running_bytes_ += bytes;
  }
  SetRetryAfter(refused, options_.retry_after);
  return refused;
}

void FrontDoor::ReleaseSlot(int64_t bytes) {
  std::lock_guard<std::mutex> lock(mutex_);
  running_bytes_ -= bytes;
  --num_running_;
}

}  // namespace winnow
