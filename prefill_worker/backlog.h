#pragma once

#include <algorithm>

#include "absl/time/time.h"
#include "plan/kv_plan.h"

namespace winnow {

// How long the prompts that a worker has taken on will keep it busy, by what its last steps
// achieved. Work is counted in rows times layers; what attention adds to long prompts shows in the
// rate only. Not thread-safe.
class Backlog {
 public:
  // Rows of one phase of a prompt, or the whole of it.
  static double WorkOf(const KvPlan& plan, bool is_first_phase, int64_t rows) {
    const int layers = is_first_phase ? plan.pivot_layer : plan.num_layers - plan.pivot_layer;
    return static_cast<double>(rows) * layers;
  }
  static double WorkOf(const KvPlan& plan) {
    return WorkOf(plan, true, plan.num_prompt_tokens) + WorkOf(plan, false, plan.num_phase2_rows());
  }

  void Add(double work) { work_ += work; }
  // Done, or given up.
  void Remove(double work) { work_ = std::max(0.0, work_ - work); }
  // Nothing is left, whatever rounding says.
  void Clear() { work_ = 0; }
  // What a step of the engine achieved; the last twenty or so decide the rate.
  void OnStep(double work, absl::Duration took) {
    constexpr double kMemory = 0.95;
    measured_work_ = kMemory * measured_work_ + work;
    measured_seconds_ = kMemory * measured_seconds_ + absl::ToDoubleSeconds(took);
  }

  // Until the engine has done `more` work, too, besides all that was added. Zero before its first
  // step: nobody is refused on a guess.
  absl::Duration TimeFor(double more = 0) const {
    if (measured_work_ <= 0) return absl::ZeroDuration();
    return absl::Seconds((work_ + more) * measured_seconds_ / measured_work_);
  }

 private:
  double work_ = 0;
  double measured_work_ = 0, measured_seconds_ = 0;
};

}  // namespace winnow
