#include "tests/simulation/simulated_decode_worker.h"

#include "absl/strings/str_cat.h"
#include "common/retry_hint.h"

namespace winnow {

SimulatedDecodeWorker::SimulatedDecodeWorker(VirtualClock& clock, const CostModel& cost,
                                             const ModelShape& shape, Options options)
    : options_(std::move(options)),
      engine_(clock, cost, shape),
      scheduler_(engine_, clock, events_, [this](const std::string& id, int64_t) { Free(id); },
                 {}) {}

absl::StatusOr<std::string> SimulatedDecodeWorker::Reserve(const KvPlan& plan,
                                                           const std::string& request_id,
                                                           uint32_t attempt, int max_tokens) {
  int64_t entries = int64_t{plan.num_layers} * (max_tokens - 1);
  for (int layer = 0; layer < plan.num_layers; ++layer) entries += plan.entries(layer);
  if (used_entries_ + entries > options_.kv_entries) {
    absl::Status full = absl::ResourceExhaustedError("decode: no KV memory is free");
    SetRetryAfter(full, absl::Milliseconds(200));
    return full;
  }
  used_entries_ += entries;
  const std::string id = absl::StrCat(options_.address, "/", next_id_++);
  Reservation& reservation = reservations_[id];
  reservation.entries = entries;
  reservation.sequence = {.reservation_id = id,
                          .request_id = request_id,
                          .attempt = attempt,
                          .plan = plan,
                          .next_position = plan.num_prompt_tokens};
  return id;
}

absl::Status SimulatedDecodeWorker::Commit(const std::string& reservation_id,
                                           const std::vector<int32_t>& tokens,
                                           const SamplingParams& sampling) {
  const auto it = reservations_.find(reservation_id);
  if (it == reservations_.end()) return absl::NotFoundError("decode: no such reservation");
  it->second.committed = true;
  it->second.sequence.tokens = tokens;
  it->second.sequence.sampling = sampling;
  return scheduler_.Activate(it->second.sequence);
}

void SimulatedDecodeWorker::AbortReservation(const std::string& reservation_id,
                                             const std::string& reason) {
  const auto it = reservations_.find(reservation_id);
  if (it == reservations_.end() || it->second.committed) return;
  Free(reservation_id);
  scheduler_.OnReservationEnded(reservation_id, absl::AbortedError(reason));
}

void SimulatedDecodeWorker::Free(const std::string& reservation_id) {
  const auto it = reservations_.find(reservation_id);
  if (it == reservations_.end()) return;
  used_entries_ -= it->second.entries;
  reservations_.erase(it);
}

v1::WorkerInfo SimulatedDecodeWorker::Info() const {
  v1::WorkerInfo info;
  info.set_role(v1::WORKER_ROLE_DECODE);
  info.set_layout_digest("simulated");
  info.set_incarnation(1);
  info.set_max_context(engine_.shape().max_context);
  info.mutable_load()->set_tokens(scheduler_.num_tokens());
  return info;
}

}  // namespace winnow
