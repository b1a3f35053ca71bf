#include "tests/simulation/simulated_prefill_worker.h"

#include <algorithm>
#include <utility>

#include "wire/plan_proto.h"

namespace winnow {
namespace {

v1::WorkerLoad ToLoad(const PrefillLoad& load) {
  v1::WorkerLoad out;
  out.set_requests(load.jobs);
  out.set_tokens(load.tokens);
  out.set_seconds(absl::ToDoubleSeconds(load.time));
  return out;
}

// A reservation's way to the decode worker and back. Shared with the messages under way.
struct HandoffState {
  HandoffTarget target;
  KvPlan plan;
  std::string reservation_id;
  bool ended = false;  // aborted, or committed
};

}  // namespace

// Handoffs whose chunks are not sent one by one: what is left of them when the last layer is done
// delays the commit.
class SimulatedPrefillWorker::Handoffs final : public KvHandoffFactory {
 public:
  Handoffs(SimulatedNetwork& network, DecodeWorkers& decode) : network_(network), decode_(decode) {}

  std::shared_ptr<KvHandoff> Create(const HandoffTarget& target) override {
    return std::make_shared<Handoff>(network_, *decode_.at(target.decode_address), target);
  }

 private:
  class Handoff final : public KvHandoff, public KvSink {
   public:
    Handoff(SimulatedNetwork& network, SimulatedDecodeWorker& worker, const HandoffTarget& target)
        : network_(network), worker_(worker), state_(std::make_shared<HandoffState>()) {
      state_->target = target;
    }
    ~Handoff() override { Abort("the prefill worker dropped the request"); }

    void Reserve(const KvPlan& plan, int max_tokens,
                 std::function<void(absl::StatusOr<Grant>)> done) override {
      state_->plan = plan;
      network_.Send([&network = network_, &worker = worker_, state = state_, max_tokens, done] {
        auto id = worker.Reserve(state->plan, state->target.request_id, state->target.attempt,
                                 max_tokens);
        network.Send([&network, &worker, state, id, done] {
          if (!id.ok()) return done(id.status());
          if (state->ended) return SendAbort(network, worker, *id, "given up meanwhile");
          state->reservation_id = *id;
          done(Grant{*id, state->target.decode_address});
        });
      });
    }
    KvSink* Open(std::shared_ptr<KvStaging>) override { return this; }
    void OnKvReady(const KvReady&, EventPtr) override {}
    void Commit(std::vector<int32_t> tokens, const SamplingParams& sampling,
                std::function<void(absl::StatusOr<Summary>)> done) override {
      const int64_t bytes = state_->plan.payload_bytes(/*element_bytes=*/2);
      network_.SendAfterKv(
          bytes / state_->plan.num_layers,
          [&network = network_, &worker = worker_, state = state_, tokens, sampling, bytes, done] {
            const absl::Status committed = worker.Commit(state->reservation_id, tokens, sampling);
            network.Send([state, committed, bytes, done] {
              state->ended = committed.ok();
              committed.ok() ? done(Summary{bytes}) : done(committed);
            });
          });
    }
    void Abort(const std::string& reason) override {
      if (std::exchange(state_->ended, true) || state_->reservation_id.empty()) return;
      SendAbort(network_, worker_, state_->reservation_id, reason);
    }

   private:
    static void SendAbort(SimulatedNetwork& network, SimulatedDecodeWorker& worker,
                          const std::string& id, const std::string& reason) {
      network.Send([&worker, id, reason] { worker.AbortReservation(id, reason); });
    }

    SimulatedNetwork& network_;
    SimulatedDecodeWorker& worker_;
    const std::shared_ptr<HandoffState> state_;
  };

  SimulatedNetwork& network_;
  DecodeWorkers& decode_;
};

SimulatedPrefillWorker::SimulatedPrefillWorker(SimulatedNetwork& network, DecodeWorkers& decode,
                                               const CostModel& cost, const ModelShape& shape,
                                               Options options)
    : options_(std::move(options)),
      engine_(network.clock(), cost, shape, options_.max_step_rows),
      handoffs_(std::make_unique<Handoffs>(network, decode)),
      scheduler_(engine_, *handoffs_, network.clock(), events_, options_.scheduler) {}

std::shared_ptr<StopFlag> SimulatedPrefillWorker::Prefill(
    const v1::PrefillRequest& request, Deadline deadline,
    StreamCallbacks<v1::PrefillResponse> reply) {
  PrefillJob job;
  job.target = {.request_id = request.request_id(),
                .attempt = request.attempt(),
                .decode_address = request.decode_address(),
                .deadline = deadline};
  job.prompt_ids.assign(request.prompt_ids().begin(), request.prompt_ids().end());
  job.selection = *FromProto(request.selection(), engine_.shape());
  job.sampling = *FromProto(request.sampling());
  job.priority = request.priority();

  PrefillCallbacks callbacks;
  callbacks.accepted = [this, reply](const PrefillLoad& load) {
    v1::PrefillResponse event;
    *event.mutable_accepted()->mutable_load() = ToLoad(load);
    reply.message(event);
    most_jobs_ = std::max(most_jobs_, load.jobs);
  };
  callbacks.reserved = [reply](const std::string& address, const std::string& id) {
    v1::PrefillResponse event;
    event.mutable_reserved()->set_decode_address(address);
    event.mutable_reserved()->set_reservation_id(id);
    reply.message(event);
  };
  callbacks.token = [reply](int32_t token, bool is_stop) {
    v1::PrefillResponse event;
    event.mutable_token()->set_id(token);
    event.mutable_token()->set_is_stop(is_stop);
    reply.message(event);
  };
  callbacks.committed = [this, reply](const PrefillSummary& summary) {
    v1::PrefillResponse event;
    *event.mutable_committed()->mutable_load() = ToLoad(scheduler_.load());
    event.mutable_committed()->set_decode_follows(summary.decode_follows);
    reply.message(event);
    reply.ended(absl::OkStatus());
  };
  callbacks.failed = reply.ended;

  const std::shared_ptr<StopFlag> stop = job.stop;
  const auto tokens = static_cast<int64_t>(job.prompt_ids.size());
  const absl::Status taken = scheduler_.Submit(std::move(job), std::move(callbacks));
  if (!taken.ok()) {
    v1::PrefillResponse event;
    *event.mutable_refused()->mutable_load() = ToLoad(scheduler_.load());
    reply.message(event);
    reply.ended(taken);
    return stop;
  }
  ++accepted_jobs_;
  accepted_tokens_ += tokens;
  return stop;
}

v1::WorkerInfo SimulatedPrefillWorker::Info() const {
  v1::WorkerInfo info;
  info.set_role(v1::WORKER_ROLE_PREFILL);
  info.set_layout_digest("simulated");
  info.set_incarnation(1);
  info.set_max_context(engine_.shape().max_context);
  *info.mutable_load() = ToLoad(scheduler_.load());
  return info;
}

}  // namespace winnow
