#include "engine/comm/peer_sums.h"

#include <algorithm>
#include <array>
#include <condition_variable>
#include <mutex>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "engine/comm/forwarding_communicator.h"
#include "engine/comm/waiting.h"

namespace winnow {

struct PeerSums::State {
  using Sum = Communicator::Sum;
  struct Rank {
    uint64_t num_ready = 0, num_sent = 0;  // of its sums so far
    std::array<Sum, Communicator::kMaxBegunSums> sums;
  };
  State(std::unique_ptr<PeerCopies> copies, int size, int64_t min_overlap_elements,
        const Clock& clock)
      : copies(std::move(copies)),
        min_overlap_elements(min_overlap_elements),
        clock(clock),
        ranks(size) {}

  int size() const { return static_cast<int>(ranks.size()); }

  // All below: REQUIRES: `mutex` is held by `lock`.
  absl::Status MeetAt(std::unique_lock<std::mutex>& lock, int rank, uint64_t Rank::*count,
                      uint64_t target, const char* what, Deadline deadline);
  absl::Status CheckSums(int slot) const;
  absl::Status Break(absl::Status why);

  const std::unique_ptr<PeerCopies> copies;
  const int64_t min_overlap_elements;
  const Clock& clock;
  std::mutex mutex;
  std::condition_variable wake;
  std::vector<Rank> ranks;
  absl::Status broken;  // OK while the group works
};

// The first reason stays.
absl::Status PeerSums::State::Break(absl::Status why) {
  if (broken.ok()) broken = std::move(why);
  wake.notify_all();
  return broken;
}

// Until every rank's `count` is `target`.
absl::Status PeerSums::State::MeetAt(std::unique_lock<std::mutex>& lock, int rank,
                                     uint64_t Rank::*count, uint64_t target, const char* what,
                                     Deadline deadline) {
  const auto late = [&](const Rank& peer) { return peer.*count < target; };
  while (broken.ok()) {
    const auto missing = std::find_if(ranks.begin(), ranks.end(), late);
    if (missing == ranks.end()) return absl::OkStatus();
    if (!WaitForNews(wake, lock, clock, deadline)) {
      return Break(absl::DeadlineExceededError(absl::StrCat(
          what, ": rank ", rank, " waited past its deadline for rank ", missing - ranks.begin())));
    }
  }
  return broken;
}

absl::Status PeerSums::State::CheckSums(int slot) const {
  const auto text = [&](int rank) {
    const Sum& sum = ranks[rank].sums[slot];
    return absl::StrCat("rank ", rank, " begins ", DTypeName(sum.dtype), " x ", sum.count);
  };
  for (int rank = 1; rank < size(); ++rank) {
    const Sum &a = ranks[0].sums[slot], &b = ranks[rank].sums[slot];
    if (a.dtype != b.dtype || a.count != b.count) {
      return absl::InternalError(
          absl::StrCat("ranks disagree on the sum: ", text(0), ", ", text(rank)));
    }
  }
  return absl::OkStatus();
}

class PeerSums::Endpoint final : public ForwardingCommunicator {
 public:
  Endpoint(Communicator& inner, State& state) : ForwardingCommunicator(inner), state_(state) {}

  int64_t min_overlap_elements() const override { return state_.min_overlap_elements; }

  absl::Status BeginSum(const Sum& sum, Deadline deadline) override {
    const int slot = Slot(num_begun_++);
    PeerCopies& copies = *state_.copies;
    State::Rank& own = state_.ranks[rank()];
    copies.Ready(rank(), slot);
    std::vector<void*> inboxes;
    {
      std::unique_lock<std::mutex> lock(state_.mutex);
      own.sums[slot] = sum;
      own.num_ready = num_begun_;
      state_.wake.notify_all();
      WINNOW_RETURN_IF_ERROR(
          state_.MeetAt(lock, rank(), &State::Rank::num_ready, num_begun_, "BeginSum", deadline));
      if (absl::Status same = state_.CheckSums(slot); !same.ok()) return state_.Break(same);
      for (const State::Rank& peer : state_.ranks) inboxes.push_back(peer.sums[slot].inbox);
    }
    const int64_t bytes = sum.count * ElementSize(sum.dtype);
    for (int i = 1; i < size(); ++i) {  // each begins with another one
      const int peer = (rank() + i) % size();
      auto* place = static_cast<std::byte*>(inboxes[peer]) + Place(peer, rank()) * bytes;
      copies.Send(rank(), peer, slot, place, sum.data, bytes);
    }
    copies.Sent(rank(), slot);
    std::lock_guard<std::mutex> lock(state_.mutex);
    own.num_sent = num_begun_;
    state_.wake.notify_all();
    return absl::OkStatus();
  }

  absl::StatusOr<Addends> JoinSum(const Sum& sum, Deadline deadline) override {
    const int slot = Slot(num_joined_++);
    {
      std::unique_lock<std::mutex> lock(state_.mutex);
      WINNOW_RETURN_IF_ERROR(
          state_.MeetAt(lock, rank(), &State::Rank::num_sent, num_joined_, "JoinSum", deadline));
    }
    const int64_t bytes = sum.count * ElementSize(sum.dtype);
    Addends addends;
    for (int sender = 0; sender < size(); ++sender) {
      // Its own, too: until those are done, others read `data`.
      state_.copies->Follow(rank(), sender, slot);
      addends.data[addends.count++] = sender == rank() ? sum.data
                                                       : static_cast<const std::byte*>(sum.inbox) +
                                                             Place(rank(), sender) * bytes;
    }
    return addends;
  }

  void Abort(const absl::Status& reason) override {
    {
      std::lock_guard<std::mutex> lock(state_.mutex);
      (void)state_.Break(GroupAborted(reason));
    }
    ForwardingCommunicator::Abort(reason);
  }

  // REQUIRES: as CommunicatorGroup::Reset.
  void Forget() { num_begun_ = num_joined_ = 0; }

 private:
  static int Slot(uint64_t index) { return static_cast<int>(index % kMaxBegunSums); }
  // Of the sender's part in the receiver's inbox.
  static int Place(int receiver, int sender) { return sender < receiver ? sender : sender - 1; }

  State& state_;
  uint64_t num_begun_ = 0, num_joined_ = 0;
};

PeerSums::PeerSums(std::unique_ptr<CommunicatorGroup> inner, std::unique_ptr<PeerCopies> copies,
                   int size, int64_t min_overlap_elements, const Clock& clock)
    : inner_(std::move(inner)),
      state_(std::make_unique<State>(std::move(copies), size, min_overlap_elements, clock)) {
  for (int rank = 0; rank < size; ++rank) {
    endpoints_.push_back(std::make_unique<Endpoint>(inner_->communicator(rank), *state_));
  }
}

PeerSums::~PeerSums() = default;

Communicator& PeerSums::communicator(int rank) { return *endpoints_[rank]; }

absl::Status PeerSums::Reset() {
  {
    std::lock_guard<std::mutex> lock(state_->mutex);
    state_->broken = absl::OkStatus();
    for (State::Rank& rank : state_->ranks) rank = {};
  }
  for (const auto& endpoint : endpoints_) endpoint->Forget();
  return inner_->Reset();
}

}  // namespace winnow
