#include "router/placement.h"

#include <algorithm>
#include <functional>
#include <tuple>

#include "absl/strings/str_cat.h"

namespace winnow {
namespace {

const WorkerView* Least(const std::vector<WorkerView>& workers, size_t rotation, const std::vector<std::string>& avoid,
                        const std::function<bool(const WorkerView&)>& fits) {
  const WorkerView* best = nullptr;
  std::tuple<bool, int64_t> best_rank;
  for (size_t i = 0; i < workers.size(); ++i) {
    const WorkerView& worker = workers[(i + rotation) % workers.size()];
    if (!worker.ready || !fits(worker)) continue;
    const bool avoided = std::find(avoid.begin(), avoid.end(), worker.address) != avoid.end();
    const std::tuple<bool, int64_t> rank{avoided, worker.outstanding};
    if (best == nullptr || rank < best_rank) best = &worker, best_rank = rank;
  }
  return best;
}

absl::Status Missing(const char* role, const std::vector<WorkerView>& workers) {
  if (workers.empty()) return absl::UnavailableError(absl::StrCat("no ", role, " worker is configured"));
  return absl::UnavailableError(
      absl::StrCat("no ", role, " worker is ready: ", workers.size(), " known, the first is ", workers[0].address));
}

}  // namespace

absl::StatusOr<Placement> ChooseWorkers(const std::vector<WorkerView>& prefill, const std::vector<WorkerView>& decode,
                                        bool needs_decode, size_t rotation, const std::vector<std::string>& avoid) {
  const auto partner = [&](const WorkerView& p) {
    return Least(decode, rotation, avoid,
                 [&](const WorkerView& d) { return d.layout_digest == p.layout_digest; });
  };
  const WorkerView* p = Least(prefill, rotation, avoid, [&](const WorkerView& worker) {
    return !needs_decode || partner(worker) != nullptr;
  });
  if (p == nullptr) {
    const bool any_prefill = std::any_of(prefill.begin(), prefill.end(), [](const auto& w) { return w.ready; });
    const bool any_decode = std::any_of(decode.begin(), decode.end(), [](const auto& w) { return w.ready; });
    if (!any_prefill) return Missing("prefill", prefill);
    if (!any_decode) return Missing("decode", decode);
    return absl::UnavailableError("no prefill and decode worker share a layout digest (model, dtype, shape)");
  }
  Placement placement{.prefill_address = p->address};
  if (needs_decode) {
    const WorkerView* d = partner(*p);
    placement.decode_address = d->address;
    placement.decode_incarnation = d->incarnation;
  }
  return placement;
}

}  // namespace winnow
