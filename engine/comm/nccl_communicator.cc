#include "engine/comm/nccl_communicator.h"

#include <mutex>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status_macros.h"
#include "engine/comm/waiting.h"

namespace winnow {
namespace {

// Between two looks at a call that is under way; NCCL offers no way to be woken.
constexpr absl::Duration kNap = absl::Microseconds(50);

}  // namespace

struct NcclGroup::State {
  // A rank's end. The lock is held for every use, so that an abort never meets a call half-way.
  struct Rank {
    std::mutex mutex;
    NcclComm comm = nullptr;  // null while broken
  };
  explicit State(Options o) : options(std::move(o)), ranks(options.devices.size()) {}

  absl::Status Init();
  // Follows a call until it is enqueued. Any failure breaks the group.
  absl::Status Follow(int rank, const char* what, NcclApi::Result result, Deadline deadline);
  absl::Status Broken();
  // The first reason stays; `cause` is what on_abort hears of it, if OK nothing.
  void Break(const absl::Status& why, const absl::Status& cause);
  void Break(const absl::Status& why) { Break(why, why); }

  const Options options;
  std::vector<Rank> ranks;
  std::mutex mutex;  // never held while a rank's is taken
  absl::Status broken = absl::FailedPreconditionError("NCCL: not initialised");
};

absl::Status NcclGroup::State::Init() {
  WINNOW_ASSIGN_OR_RETURN(const std::vector<NcclComm> comms, options.api->Init(options.devices));
  {
    std::lock_guard<std::mutex> lock(mutex);
    broken = absl::OkStatus();
  }
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    std::lock_guard<std::mutex> lock(ranks[rank].mutex);
    ranks[rank].comm = comms[rank];
  }
  const Deadline deadline = Deadline::After(*options.clock, options.init_timeout);
  for (int rank = 0; rank < static_cast<int>(ranks.size()); ++rank) {
    WINNOW_RETURN_IF_ERROR(Follow(rank, "init", NcclApi::Result::kInProgress, deadline));
  }
  return absl::OkStatus();
}

absl::Status NcclGroup::State::Broken() {
  std::lock_guard<std::mutex> lock(mutex);
  return broken;
}

void NcclGroup::State::Break(const absl::Status& why, const absl::Status& cause) {
  {
    std::lock_guard<std::mutex> lock(mutex);
    if (!broken.ok()) return;
    broken = why;
  }
  for (Rank& rank : ranks) {
    std::lock_guard<std::mutex> lock(rank.mutex);
    if (NcclComm comm = std::exchange(rank.comm, nullptr)) options.api->Abort(comm);
  }
  if (!cause.ok() && options.on_abort) options.on_abort(cause);
}

absl::Status NcclGroup::State::Follow(int rank, const char* what, NcclApi::Result result,
                                      Deadline deadline) {
  std::string error;
  while (result != NcclApi::Result::kSuccess) {
    if (result == NcclApi::Result::kInProgress) {
      if (deadline.HasPassed(*options.clock)) {
        Break(absl::DeadlineExceededError(absl::StrCat("NCCL ", what, ": rank ", rank,
                                                       " waited past its deadline for its peers")));
        return Broken();
      }
      absl::SleepFor(kNap);
    }
    std::unique_lock<std::mutex> lock(ranks[rank].mutex);
    if (ranks[rank].comm == nullptr) return Broken();
    if (result == NcclApi::Result::kError) {
      error = options.api->ErrorText(ranks[rank].comm);
      lock.unlock();
      Break(absl::InternalError(absl::StrCat("NCCL ", what, " on rank ", rank, ": ", error)));
      return Broken();
    }
    result = options.api->AsyncResult(ranks[rank].comm);
  }
  return absl::OkStatus();
}

class NcclGroup::Endpoint final : public Communicator {
 public:
  Endpoint(State& state, int rank) : state_(state), rank_(rank) {}

  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(state_.options.devices.size()); }

  absl::Status AllReduceSum(void* data, DType dtype, int64_t count, Deadline deadline) override {
    return Reduce("AllReduceSum", data, dtype, count, Reduction::kSum, deadline);
  }
  absl::Status AllReduceMax(float* data, int64_t count, Deadline deadline) override {
    return Reduce("AllReduceMax", data, DType::kF32, count, Reduction::kMax, deadline);
  }
  absl::Status AllGather(const void* in, void* out, int64_t bytes, Deadline deadline) override {
    return Call("AllGather", deadline, [&](NcclComm comm, CudaStream stream) {
      return state_.options.api->AllGather(comm, in, out, bytes, stream);
    });
  }
  void Abort(const absl::Status& reason) override { state_.Break(GroupAborted(reason), reason); }

 private:
  absl::Status Reduce(const char* what, void* data, DType dtype, int64_t count, Reduction reduction,
                      Deadline deadline) {
    return Call(what, deadline, [&](NcclComm comm, CudaStream stream) {
      return state_.options.api->AllReduce(comm, data, dtype, count, reduction, stream);
    });
  }
  template <typename Enqueue>
  absl::Status Call(const char* what, Deadline deadline, Enqueue enqueue) {
    NcclApi::Result result;
    {
      State::Rank& own = state_.ranks[rank_];
      std::lock_guard<std::mutex> lock(own.mutex);
      if (own.comm == nullptr) return state_.Broken();
      result = enqueue(own.comm, state_.options.streams[rank_]);
    }
    return state_.Follow(rank_, what, result, deadline);
  }

  State& state_;
  const int rank_;
};

NcclGroup::NcclGroup(Options options) : state_(std::make_unique<State>(std::move(options))) {
  for (int rank = 0; rank < static_cast<int>(state_->options.devices.size()); ++rank) {
    endpoints_.push_back(std::make_unique<Endpoint>(*state_, rank));
  }
}

NcclGroup::~NcclGroup() {
  state_->Break(absl::CancelledError("NCCL: the group is gone"), absl::OkStatus());
}

absl::StatusOr<std::unique_ptr<NcclGroup>> NcclGroup::Create(Options options) {
  const std::set<int> distinct(options.devices.begin(), options.devices.end());
  if (options.devices.empty() || distinct.size() != options.devices.size() ||
      options.streams.size() != options.devices.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("NCCL: expected a device of its own and a stream for every rank, got ",
                     options.devices.size(), " ranks on ", distinct.size(), " devices with ",
                     options.streams.size(), " streams"));
  }
  auto group = std::unique_ptr<NcclGroup>(new NcclGroup(std::move(options)));
  WINNOW_RETURN_IF_ERROR(group->state_->Init());
  return group;
}

Communicator& NcclGroup::communicator(int rank) { return *endpoints_[rank]; }

absl::Status NcclGroup::Reset() {
  state_->Break(absl::CancelledError("NCCL: the group begins anew"), absl::OkStatus());
  return state_->Init();
}

}  // namespace winnow
