#pragma once

#include <algorithm>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "engine/prefill_engine.h"
#include "prefill_worker/kv_handoff.h"
#include "prefill_worker/prefill_scheduler.h"

namespace winnow {

// An engine that computes nothing: the logit of token (prompt length mod vocabulary) is the
// highest. A prompt's token takes one of memory_bytes.
class FakePrefillEngine final : public PrefillEngine {
 public:
  FakePrefillEngine() {
    shape_ = {.num_layers = 4,
              .hidden = 8,
              .num_q_heads = 2,
              .num_kv_heads = 1,
              .head_dim = 4,
              .intermediate = 8,
              .vocab_size = 100,
              .max_context = 10000};
  }
  const ModelShape& shape() const override { return shape_; }
  int tensor_parallel() const override { return 1; }
  int kv_element_bytes() const override { return 4; }
  int64_t max_step_rows() const override { return 64; }
  PrefillMemory MemoryFor(const PrefillPlan& plan, const SelectionConfig&) const override {
    std::lock_guard<std::mutex> lock(mutex_);
    int64_t taken = 0;
    for (const auto& [id, sequence] : sequences_) taken += sequence.prompt;
    return {plan.kv.num_prompt_tokens, memory_bytes - taken, memory_bytes};
  }
  absl::StatusOr<std::shared_ptr<KvStaging>> AllocateStaging(const KvPlan& plan) override {
    auto staging = std::make_shared<KvStaging>();
    staging->plan = plan;
    KvStaging::Rank rank;
    rank.heads = {.kv_count = 1, .q_count = 2};
    rank.layout = KvLayout(plan, 1, 4);
    const int64_t bytes = rank.layout.total_bytes();
    rank.memory = Buffer(::operator new(bytes), bytes, [](void* p) { ::operator delete(p); });
    staging->ranks.push_back(std::move(rank));
    return staging;
  }
  absl::StatusOr<int64_t> Admit(PrefillSpec spec, std::shared_ptr<KvStaging>, KvSink*) override {
    std::lock_guard<std::mutex> lock(mutex_);
    const int64_t id = next_++;
    sequences_[id] = {static_cast<int64_t>(spec.prompt_ids.size()), spec.plan.passes, {}};
    sequences_[id].progress.num_rows = spec.plan.passes[0].num_rows;
    most_sequences = std::max(most_sequences, sequences_.size());
    admitted.push_back(sequences_[id].prompt);
    return id;
  }
  absl::StatusOr<PrefillProgress> Progress(int64_t sequence) const override {
    std::lock_guard<std::mutex> lock(mutex_);
    auto it = sequences_.find(sequence);
    if (it == sequences_.end()) return absl::InvalidArgumentError("no such sequence");
    return it->second.progress;
  }
  absl::StatusOr<std::vector<PrefillOutput>> Step(
      absl::Span<const PrefillStepItem> items) override {
    if (on_step) on_step();
    std::lock_guard<std::mutex> lock(mutex_);
    ++steps;
    if (!step_error.ok()) return step_error;
    std::vector<PrefillOutput> outputs;
    for (const PrefillStepItem& item : items) {
      Sequence& sequence = sequences_.at(item.sequence);
      sequence.progress.next_row += item.row_count;
      if (sequence.progress.next_row < sequence.progress.num_rows) continue;
      const int next = item.pass + 1;
      if (next < static_cast<int>(sequence.passes.size())) {
        sequence.progress = {.pass = next, .num_rows = sequence.passes[next].num_rows};
        continue;
      }
      sequence.progress = {.pass = next};
      PrefillOutput output;
      output.sequence = item.sequence;
      if (sequence.prompt == bad_prompt) output.status = absl::InternalError("not a number");
      output.logits.assign(shape_.vocab_size, 0.0f);
      output.logits[sequence.prompt % shape_.vocab_size] = 1.0f;
      outputs.push_back(std::move(output));
    }
    return outputs;
  }
  void Release(int64_t sequence) override {
    std::lock_guard<std::mutex> lock(mutex_);
    sequences_.erase(sequence);
  }
  size_t num_sequences() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return sequences_.size();
  }

  // Set before the scheduler starts.
  std::function<void()> on_step;
  absl::Status step_error;
  int64_t memory_bytes = 1 << 20;
  int steps = 0;
  size_t most_sequences = 0;      // at a time
  int64_t bad_prompt = 0;         // a prompt of so many tokens fails alone
  std::vector<int64_t> admitted;  // lengths of the prompts, in order

 private:
  struct Sequence {
    int64_t prompt = 0;
    std::vector<PrefillPass> passes;
    PrefillProgress progress;
  };
  ModelShape shape_;
  mutable std::mutex mutex_;
  std::map<int64_t, Sequence> sequences_;
  int64_t next_ = 1;
};

// A decode worker that grants and commits what it is told to. Callbacks come from a thread of its
// own, as real ones do.
class FakeHandoffs final : public KvHandoffFactory {
 public:
  struct Record {
    std::vector<std::string> calls;  // "reserve a", "commit a 7,8", "abort a"
    std::map<std::string, absl::Status> reserve_status, commit_status;  // by request id
  };
  std::shared_ptr<KvHandoff> Create(const HandoffTarget& target) override {
    return std::make_shared<Handoff>(*this, target);
  }
  ~FakeHandoffs() override { AwaitCallbacks(); }
  // Once it returns, all answers to the calls so far have been given.
  void AwaitCallbacks() {
    std::vector<std::thread> threads;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      threads.swap(threads_);
    }
    for (std::thread& thread : threads) thread.join();
  }
  std::vector<std::string> calls() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return record_.calls;
  }
  void FailReserve(const std::string& request, absl::Status status) {
    record_.reserve_status[request] = status;
  }
  void FailCommit(const std::string& request, absl::Status status) {
    std::lock_guard<std::mutex> lock(mutex_);
    record_.commit_status[request] = status;
  }

 private:
  class Handoff final : public KvHandoff, public KvSink {
   public:
    Handoff(FakeHandoffs& owner, const HandoffTarget& target) : owner_(owner), target_(target) {}
    void Reserve(const KvPlan&, int, std::function<void(absl::StatusOr<Grant>)> done) override {
      const absl::Status status =
          owner_.Note("reserve " + target_.request_id, owner_.record_.reserve_status, target_);
      owner_.Later([=, target = target_] {
        if (!status.ok()) return done(status);
        done(Grant{"reservation of " + target.request_id, target.decode_address});
      });
    }
    KvSink* Open(std::shared_ptr<KvStaging>) override { return this; }
    void OnKvReady(const KvReady&, EventPtr) override {}
    void Commit(std::vector<int32_t> tokens, const SamplingParams&,
                std::function<void(absl::StatusOr<Summary>)> done) override {
      std::string text;
      for (int32_t token : tokens) text += " " + std::to_string(token);
      const absl::Status status =
          owner_.Note("commit " + target_.request_id + text, owner_.record_.commit_status, target_);
      owner_.Later([=] {
        if (!status.ok()) return done(status);
        done(Summary{1234});
      });
    }
    void Abort(const std::string&) override {
      (void)owner_.Note("abort " + target_.request_id, {}, target_);
    }

   private:
    FakeHandoffs& owner_;
    const HandoffTarget target_;
  };

  absl::Status Note(const std::string& call, const std::map<std::string, absl::Status>& statuses,
                    const HandoffTarget& target) {
    std::lock_guard<std::mutex> lock(mutex_);
    record_.calls.push_back(call);
    auto it = statuses.find(target.request_id);
    return it == statuses.end() ? absl::OkStatus() : it->second;
  }
  void Later(std::function<void()> callback) {
    std::lock_guard<std::mutex> lock(mutex_);
    threads_.emplace_back(std::move(callback));
  }

  mutable std::mutex mutex_;
  Record record_;
  std::vector<std::thread> threads_;
};

// What one job's callbacks said, to wait for. The callbacks may outlive it.
class JobLog {
 public:
  PrefillCallbacks callbacks() {
    PrefillCallbacks c;
    c.reserved = [state = state_](const std::string&, const std::string& id) {
      state->Add("reserved " + id);
    };
    c.token = [state = state_](int32_t token, bool is_stop) {
      state->Add("token " + std::to_string(token) + (is_stop ? " stop" : ""));
    };
    c.committed = [state = state_](const PrefillSummary& summary) {
      std::lock_guard<std::mutex> lock(state->mutex);
      state->summary = summary;
      state->End(summary.decode_follows ? "committed" : "committed alone");
    };
    c.failed = [state = state_](const absl::Status& status) {
      std::lock_guard<std::mutex> lock(state->mutex);
      state->status = status;
      state->End("failed " + absl::StatusCodeToString(status.code()));
    };
    return c;
  }
  // Waits up to 10 s for the last event.
  std::vector<std::string> Wait() {
    std::unique_lock<std::mutex> lock(state_->mutex);
    state_->changed.wait_for(lock, std::chrono::seconds(10), [this] { return state_->done; });
    return state_->events;
  }
  bool has_ended() const {
    std::lock_guard<std::mutex> lock(state_->mutex);
    return state_->done;
  }
  PrefillSummary summary() {
    std::lock_guard<std::mutex> lock(state_->mutex);
    return state_->summary;
  }
  absl::Status status() {
    std::lock_guard<std::mutex> lock(state_->mutex);
    return state_->status;
  }

 private:
  struct State {
    std::mutex mutex;
    std::condition_variable changed;
    std::vector<std::string> events;
    PrefillSummary summary;
    absl::Status status;
    bool done = false;

    void Add(std::string event) {
      std::lock_guard<std::mutex> lock(mutex);
      events.push_back(std::move(event));
    }
    void End(std::string event) {  // the lock is held
      events.push_back(std::move(event));
      done = true;
      changed.notify_all();
    }
  };
  const std::shared_ptr<State> state_ = std::make_shared<State>();
};

}  // namespace winnow
