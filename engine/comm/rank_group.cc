#include "engine/comm/rank_group.h"

#include <pthread.h>

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace winnow {

struct RankGroup::State {
  using Fn = std::function<absl::Status(int rank)>;
  using OnError = std::function<void(const absl::Status&)>;

  void RunRank(int rank, const std::function<void(int)>& on_start);

  std::mutex run_mutex;  // held by Run's caller: one function at a time
  std::mutex mutex;      // of all below
  std::condition_variable wake;
  uint64_t round = 0;      // functions started
  const Fn* fn = nullptr;  // of this round
  const OnError* on_error = nullptr;
  size_t num_running = 0;
  bool stopping = false;
  std::vector<absl::Status> results;
  std::vector<std::thread> threads;
};

void RankGroup::State::RunRank(int rank, const std::function<void(int)>& on_start) {
  if (on_start) on_start(rank);
  uint64_t seen = 0;
  std::unique_lock<std::mutex> lock(mutex);
  while (true) {
    wake.wait(lock,
              [&] { return stopping || round != seen; });  // idle until the owner has work or ends
    if (stopping) return;
    seen = round;
    const Fn& function = *fn;
    const OnError& tell = *on_error;
    lock.unlock();
    absl::Status status = function(rank);
    if (!status.ok() && tell) tell(status);
    lock.lock();
    results[rank] = std::move(status);
    if (--num_running == 0) wake.notify_all();
  }
}

RankGroup::RankGroup(int size, std::function<void(int rank)> on_start)
    : state_(std::make_unique<State>()) {
  state_->results.resize(size);
  for (int rank = 0; rank < size; ++rank) {
    state_->threads.emplace_back(
        [state = state_.get(), rank, on_start] { state->RunRank(rank, on_start); });
    pthread_setname_np(state_->threads.back().native_handle(),
                       ("rank-" + std::to_string(rank)).c_str());
  }
}

RankGroup::~RankGroup() {
  {
    std::lock_guard<std::mutex> lock(state_->mutex);
    state_->stopping = true;
  }
  state_->wake.notify_all();
  for (std::thread& thread : state_->threads) thread.join();
}

int RankGroup::size() const { return static_cast<int>(state_->threads.size()); }

absl::Status RankGroup::Run(const std::function<absl::Status(int rank)>& fn,
                            const std::function<void(const absl::Status&)>& on_error) {
  State& s = *state_;
  std::lock_guard<std::mutex> one_at_a_time(s.run_mutex);
  std::unique_lock<std::mutex> lock(s.mutex);
  s.fn = &fn;
  s.on_error = &on_error;
  s.num_running = s.threads.size();
  ++s.round;
  s.wake.notify_all();
  s.wake.wait(lock, [&] { return s.num_running == 0; });  // ends as fn does on every rank
  absl::Status first;
  for (absl::Status& result : s.results) first.Update(std::exchange(result, absl::OkStatus()));
  return first;
}

}  // namespace winnow
