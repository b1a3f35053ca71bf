#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "common/deadline.h"
#include "common/trace_context.h"
#include "router/client_tokens.h"

namespace winnow {

// Lets one request run: for which client, until when, in which trace. Holds the slots that the
// request takes (router/front_door.h) and gives them back once, by Release or at its own end.
// Move-only. Release must not run beside another call of the same slot; the rest is thread-safe.
class RequestSlot {
 public:
  struct Terms {
    std::shared_ptr<Client> client;  // whose limits hold; null: nobody's
    Deadline deadline = Deadline::Infinite();
    TraceContext trace;  // with a span of the router's own
    int64_t bytes = 0;   // of the request's message
  };
  // `release` gives the slots back; null: there are none.
  explicit RequestSlot(Terms terms, std::function<void()> release = nullptr)
      : terms_(std::move(terms)), release_(std::move(release)) {}
  RequestSlot(RequestSlot&& other) noexcept
      : terms_(std::move(other.terms_)), release_(std::exchange(other.release_, nullptr)) {}
  RequestSlot& operator=(RequestSlot&&) = delete;
  ~RequestSlot() { Release(); }

  Client* client() const { return terms_.client.get(); }
  Deadline deadline() const { return terms_.deadline; }
  const TraceContext& trace() const { return terms_.trace; }
  int64_t bytes() const { return terms_.bytes; }

  void Release() {
    if (const auto release = std::exchange(release_, nullptr)) release();
  }

 private:
  Terms terms_;
  std::function<void()> release_;
};

}  // namespace winnow
