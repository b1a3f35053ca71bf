#pragma once

#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "engine/comm/forwarding_communicator.h"
#include "engine/device/backend.h"

namespace winnow {

// Communicators whose rank 0 notes how long each collective held its queue, the wait for slower
// ranks included; of an overlapped sum, how long the queue waited for it.
class TimedGroup final : public CommunicatorGroup {
 public:
  struct Times {
    double sum_ms = 0, max_ms = 0;  // of AllReduceSum and of AllReduceMax
  };
  // `backend`: rank 0's; must outlive it.
  TimedGroup(std::unique_ptr<CommunicatorGroup> group, Backend& backend)
      : group_(std::move(group)), first_(group_->communicator(0), backend) {}

  Communicator& communicator(int rank) override {
    return rank == 0 ? first_ : group_->communicator(rank);
  }
  absl::Status Reset() override { return group_->Reset(); }

  // Since the last call. REQUIRES: the queue is empty.
  Times Take() {
    Times times;
    for (const Span& span : std::exchange(first_.spans, {})) {
      (span.is_sum ? times.sum_ms : times.max_ms) += span.end->SecondsSince(*span.begin) * 1e3;
    }
    return times;
  }

 private:
  struct Span {
    MomentPtr begin, end;
    bool is_sum;
  };
  class First final : public ForwardingCommunicator {
   public:
    using Base = ForwardingCommunicator;
    First(Communicator& inner, Backend& backend) : Base(inner), backend_(backend) {}
    absl::Status AllReduceSum(void* data, DType dtype, int64_t count, Deadline deadline) override {
      return Timed(true, [&] { return Base::AllReduceSum(data, dtype, count, deadline); });
    }
    absl::StatusOr<Addends> JoinSum(const Sum& sum, Deadline deadline) override {
      return Timed(true, [&] { return Base::JoinSum(sum, deadline); });
    }
    absl::Status AllReduceMax(float* data, int64_t count, Deadline deadline) override {
      return Timed(false, [&] { return Base::AllReduceMax(data, count, deadline); });
    }

    std::vector<Span> spans;

   private:
    template <typename Call>
    std::invoke_result_t<Call> Timed(bool is_sum, Call call) {
      Span span{backend_.Mark(), nullptr, is_sum};
      auto result = call();
      span.end = backend_.Mark();
      spans.push_back(std::move(span));
      return result;
    }

    Backend& backend_;
  };

  std::unique_ptr<CommunicatorGroup> group_;
  First first_;
};

}  // namespace winnow
