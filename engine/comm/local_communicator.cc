#include "engine/comm/local_communicator.h"

#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <cstring>
#include <mutex>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "engine/comm/waiting.h"

namespace winnow {
namespace {

enum class Op { kSum, kMax, kGather };

const char* OpName(Op op) {
  switch (op) {
    case Op::kSum:
      return "AllReduceSum";
    case Op::kMax:
      return "AllReduceMax";
    case Op::kGather:
      return "AllGather";
  }
  return "?";
}

// What one rank brings to a collective; its peers read it between the two phases.
struct Call {
  Op op = Op::kSum;
  DType dtype = DType::kF32;
  int64_t count = 0;     // elements, or bytes of a gather
  void* data = nullptr;  // reduced in place, or read by a gather

  bool Matches(const Call& other) const {
    return op == other.op && dtype == other.dtype && count == other.count;
  }
  std::string ToString() const {
    return absl::StrCat(OpName(op), "(", DTypeName(dtype), " x ", count, ")");
  }
};

struct SumOp {
  float operator()(float a, float b) const { return a + b; }
};
struct MaxOp {
  float operator()(float a, float b) const { return a < b ? b : a; }
};

// Elements that fill whole cache lines of either type, so that no two ranks write to one.
constexpr int64_t kSliceGrain = 256;

// Only one rank touches these elements, so no copy of the buffers is needed. The block stays in L1.
template <typename T, typename Combine>
void ReduceSlice(absl::Span<void* const> buffers, int64_t begin, int64_t end, Combine combine) {
  float sum[kSliceGrain];
  for (int64_t block = begin; block < end; block += kSliceGrain) {
    const int64_t size = std::min(kSliceGrain, end - block);
    const T* first = static_cast<const T*>(buffers[0]) + block;
    for (int64_t i = 0; i < size; ++i) sum[i] = ToFloat(first[i]);
    for (void* buffer : buffers.subspan(1)) {
      const T* in = static_cast<const T*>(buffer) + block;
      for (int64_t i = 0; i < size; ++i) sum[i] = combine(sum[i], ToFloat(in[i]));
    }
    for (void* buffer : buffers) {
      T* out = static_cast<T*>(buffer) + block;
      for (int64_t i = 0; i < size; ++i) out[i] = FromFloat<T>(sum[i]);
    }
  }
}

// Calls are done when they return: there is nothing to follow.
class HostMemory final : public PeerMemory {
 public:
  void Ready(int) override {}
  void Follow(int) override {}
  void Reduce(int, absl::Span<void* const> buffers, DType dtype, int64_t begin, int64_t end,
              Reduction reduction) override {
    const auto run = [&](auto combine) {
      dtype == DType::kF32 ? ReduceSlice<float>(buffers, begin, end, combine)
                           : ReduceSlice<Bf16>(buffers, begin, end, combine);
    };
    reduction == Reduction::kSum ? run(SumOp()) : run(MaxOp());
  }
  void Copy(int, void* to, const void* from, int64_t bytes) override {
    std::memcpy(to, from, bytes);
  }
};

}  // namespace

// A collective has two phases. Enter: every rank publishes its Call and waits for the others. Then
// all work on each other's memory ("busy"). Leave: a rank is done when all are. Whoever leaves
// early, because the group broke, first waits until no peer is busy, since the peer may be using
// its buffer.
struct LocalGroup::State {
  State(int size, const Clock& clock, std::unique_ptr<PeerMemory> memory)
      : clock(clock), memory(std::move(memory)), calls(size), arrived(size, false) {}

  absl::Status Enter(int rank, Call call, Deadline deadline);
  absl::Status Leave(int rank, Deadline deadline);
  void Abort(const absl::Status& reason);
  void Reset();

  // REQUIRES of all below: `mutex` is held by `lock`.
  absl::Status Meet(std::unique_lock<std::mutex>& lock, int rank, Op op, Deadline deadline);
  void Break(absl::Status why);
  absl::Status CheckCalls() const;
  std::string Missing() const;

  const Clock& clock;
  const std::unique_ptr<PeerMemory> memory;
  std::mutex mutex;
  std::condition_variable wake;
  std::vector<Call> calls;
  std::vector<bool> arrived;
  size_t num_arrived = 0;
  uint64_t generation = 0;  // meetings completed
  int num_busy = 0;         // ranks between Enter and Leave
  absl::Status broken;      // OK while the group works
};

void LocalGroup::State::Break(absl::Status why) {
  if (broken.ok()) broken = std::move(why);
  wake.notify_all();
}

std::string LocalGroup::State::Missing() const {
  std::string ranks;
  for (size_t rank = 0; rank < arrived.size(); ++rank) {
    if (!arrived[rank]) absl::StrAppend(&ranks, ranks.empty() ? "" : ", ", rank);
  }
  return ranks;
}

absl::Status LocalGroup::State::Meet(std::unique_lock<std::mutex>& lock, int rank, Op op,
                                     Deadline deadline) {
  const uint64_t meeting = generation;
  if (broken.ok()) {
    arrived[rank] = true;
    if (++num_arrived == arrived.size()) {
      num_arrived = 0;
      arrived.assign(arrived.size(), false);
      ++generation;
      wake.notify_all();
    }
  }
  while (broken.ok() && generation == meeting) {
    if (!WaitForNews(wake, lock, clock, deadline)) {
      Break(absl::DeadlineExceededError(absl::StrCat(
          OpName(op), ": rank ", rank, " waited past its deadline for rank ", Missing())));
      break;
    }
  }
  if (broken.ok()) return absl::OkStatus();
  // Short and certain to end: who is busy computes and waits for nothing.
  wake.wait(lock, [this] { return num_busy == 0; });
  return broken;
}

absl::Status LocalGroup::State::CheckCalls() const {
  for (size_t rank = 1; rank < calls.size(); ++rank) {
    if (!calls[rank].Matches(calls[0])) {
      return absl::InternalError(absl::StrCat("ranks disagree on the collective: rank 0 calls ",
                                              calls[0].ToString(), ", rank ", rank, " ",
                                              calls[rank].ToString()));
    }
  }
  return absl::OkStatus();
}

absl::Status LocalGroup::State::Enter(int rank, Call call, Deadline deadline) {
  std::unique_lock<std::mutex> lock(mutex);
  if (!broken.ok()) return broken;
  const Op op = call.op;
  calls[rank] = std::move(call);
  WINNOW_RETURN_IF_ERROR(Meet(lock, rank, op, deadline));
  if (absl::Status same = CheckCalls();
      !same.ok()) {  // every rank comes to this conclusion, before it is busy
    Break(same);
    return broken;
  }
  ++num_busy;
  return absl::OkStatus();
}

absl::Status LocalGroup::State::Leave(int rank, Deadline deadline) {
  std::unique_lock<std::mutex> lock(mutex);
  --num_busy;
  if (!broken.ok()) wake.notify_all();
  return Meet(lock, rank, calls[rank].op, deadline);
}

void LocalGroup::State::Abort(const absl::Status& reason) {
  std::lock_guard<std::mutex> lock(mutex);
  Break(GroupAborted(reason));
}

void LocalGroup::State::Reset() {
  std::lock_guard<std::mutex> lock(mutex);
  broken = absl::OkStatus();
  num_arrived = 0;
  arrived.assign(arrived.size(), false);
}

class LocalGroup::Endpoint final : public Communicator {
 public:
  Endpoint(State& state, int rank) : state_(state), rank_(rank) {}

  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(state_.calls.size()); }

  absl::Status AllReduceSum(void* data, DType dtype, int64_t count, Deadline deadline) override {
    return Reduce({.op = Op::kSum, .dtype = dtype, .count = count, .data = data}, Reduction::kSum,
                  deadline);
  }
  absl::Status AllReduceMax(float* data, int64_t count, Deadline deadline) override {
    return Reduce({.op = Op::kMax, .count = count, .data = data}, Reduction::kMax, deadline);
  }

  absl::Status AllGather(const void* in, void* out, int64_t bytes, Deadline deadline) override {
    const Call call{.op = Op::kGather, .count = bytes, .data = const_cast<void*>(in)};
    return Collect(call, deadline, [&] {
      auto* to = static_cast<std::byte*>(out);
      for (const Call& peer : state_.calls) {  // `in` may be its own place in `out`
        if (to != peer.data && bytes > 0) state_.memory->Copy(rank_, to, peer.data, bytes);
        to += bytes;
      }
    });
  }

  void Abort(const absl::Status& reason) override { state_.Abort(reason); }

 private:
  absl::Status Reduce(const Call& call, Reduction reduction, Deadline deadline) {
    return Collect(call, deadline, [&] {
      std::vector<void*> buffers;
      for (const Call& peer : state_.calls) buffers.push_back(peer.data);
      const auto [begin, end] = Slice(call.count);
      state_.memory->Reduce(rank_, buffers, call.dtype, begin, end, reduction);
    });
  }

  // `work` touches all ranks' memory, between the two phases.
  template <typename Work>
  absl::Status Collect(const Call& call, Deadline deadline, Work work) {
    PeerMemory& memory = *state_.memory;
    memory.Ready(rank_);
    WINNOW_RETURN_IF_ERROR(state_.Enter(rank_, call, deadline));
    memory.Follow(rank_);
    work();
    memory.Ready(rank_);
    const absl::Status left = state_.Leave(rank_, deadline);
    memory.Follow(rank_);  // also after a failure: peers may still be at this rank's memory
    return left;
  }

  // This rank's share of `count` elements: ranks share the cores, so each reduces a part.
  std::pair<int64_t, int64_t> Slice(int64_t count) const {
    const int64_t grains = (count + kSliceGrain - 1) / kSliceGrain;
    const int64_t per_rank = (grains + size() - 1) / size() * kSliceGrain;
    return {std::min(count, rank_ * per_rank), std::min(count, (rank_ + 1) * per_rank)};
  }

  State& state_;
  const int rank_;
};

LocalGroup::LocalGroup(int size, const Clock& clock, std::unique_ptr<PeerMemory> memory)
    : state_(std::make_unique<State>(
          size, clock, memory != nullptr ? std::move(memory) : std::make_unique<HostMemory>())) {
  for (int rank = 0; rank < size; ++rank)
    endpoints_.push_back(std::make_unique<Endpoint>(*state_, rank));
}

LocalGroup::~LocalGroup() = default;

Communicator& LocalGroup::communicator(int rank) { return *endpoints_[rank]; }

absl::Status LocalGroup::Reset() {
  state_->Reset();
  return absl::OkStatus();
}

}  // namespace winnow
