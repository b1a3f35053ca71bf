#include "router/placement.h"

#include <algorithm>
#include <functional>
#include <set>
#include <tuple>

#include "absl/strings/str_cat.h"

namespace winnow {
namespace {

const WorkerView* Least(const std::vector<WorkerView>& workers, const PlacementQuery& query,
                        const std::function<bool(const WorkerView&)>& fits) {
  const WorkerView* best = nullptr;
  std::tuple<bool, bool, int64_t> best_rank;
  for (size_t i = 0; i < workers.size(); ++i) {
    const WorkerView& worker = workers[(i + query.rotation) % workers.size()];
    if (!worker.ready || !fits(worker)) continue;
    const bool avoided =
        std::find(query.avoid.begin(), query.avoid.end(), worker.address) != query.avoid.end();
    const std::tuple<bool, bool, int64_t> rank{avoided, worker.failing, worker.outstanding};
    if (best == nullptr || rank < best_rank) best = &worker, best_rank = rank;
  }
  return best;
}

bool AnyReady(const std::vector<WorkerView>& workers) {
  return std::any_of(workers.begin(), workers.end(), [](const auto& w) { return w.ready; });
}

absl::Status Missing(const char* role, const std::vector<WorkerView>& workers) {
  if (workers.empty()) {
    return absl::UnavailableError(absl::StrCat("no ", role, " worker is known"));
  }
  return absl::UnavailableError(absl::StrCat("no ", role, " worker is ready: ", workers.size(),
                                             " known, the first is ", workers[0].address));
}

absl::Status NobodyFits(const std::vector<WorkerView>& prefill,
                        const std::vector<WorkerView>& decode, const PlacementQuery& query) {
  if (!AnyReady(prefill)) return Missing("prefill", prefill);
  if (query.needs_decode && !AnyReady(decode)) return Missing("decode", decode);
  if (!query.only_prefill.empty()) {
    return absl::UnavailableError(
        absl::StrCat("prefill worker ", query.only_prefill, " is not ready"));
  }
  return absl::UnavailableError(
      "no prefill and decode worker share a layout digest (model, dtype, shape)");
}

}  // namespace

absl::StatusOr<Placement> ChooseWorkers(const std::vector<WorkerView>& prefill,
                                        const std::vector<WorkerView>& decode,
                                        const PlacementQuery& query) {
  std::set<std::string> decodable;  // digests that a ready decode worker has
  for (const WorkerView& d : decode) {
    if (d.ready) decodable.insert(d.layout_digest);
  }
  const WorkerView* p = Least(prefill, query, [&](const WorkerView& worker) {
    return (query.only_prefill.empty() || worker.address == query.only_prefill) &&
           (!query.needs_decode || decodable.count(worker.layout_digest) > 0);
  });
  if (p == nullptr) return NobodyFits(prefill, decode, query);
  Placement placement{.prefill_address = p->address};
  if (query.needs_decode) {
    const WorkerView* d = Least(decode, query, [&](const WorkerView& worker) {
      return worker.layout_digest == p->layout_digest;
    });
    placement.decode_address = d->address;
    placement.decode_incarnation = d->incarnation;
  }
  return placement;
}

}  // namespace winnow
