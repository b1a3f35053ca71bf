#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <map>

#include "absl/time/time.h"
#include "plan/prefill_plan.h"

namespace winnow {

// How long the prompts that a worker has taken on will keep it busy, by what its last steps
// achieved. Work is counted in rows times layers; what attention adds to long prompts shows in the
// rate only. Not thread-safe.
class Backlog {
 public:
  using Work = std::map<int, double>;  // by priority

  // Rows of one pass of a prompt, or the whole of it. A pass's last layer makes K,V, and one row at
  // most runs through the rest of it: not counted.
  static double WorkOf(const PrefillPass& pass, int64_t rows) {
    return static_cast<double>(rows) * (pass.last_layer - pass.first_layer);
  }
  static double WorkOf(const PrefillPlan& plan) {
    double work = 0;
    for (const PrefillPass& pass : plan.passes) work += WorkOf(pass, pass.num_rows);
    return work;
  }

  void Add(double work, int priority = 0) { work_[priority] += work; }
  // Done, or given up.
  void Remove(double work, int priority = 0) {
    work_[priority] -= work;
    Forget(work_);
  }
  // Nothing is left, whatever rounding says.
  void Clear() { work_.clear(); }
  // What a step of the engine achieved, which ended `elapsed` after the one before; the last twenty
  // or so decide the rate.
  void OnStep(const Work& done, absl::Duration took, absl::Duration elapsed) {
    constexpr double kMemory = 0.95;
    for (auto& [priority, work] : measured_work_) work *= kMemory;
    for (const auto& [priority, work] : done) measured_work_[priority] += work;
    Forget(measured_work_);
    measured_seconds_ = kMemory * measured_seconds_ + absl::ToDoubleSeconds(took);
    measured_elapsed_ = kMemory * measured_elapsed_ + absl::ToDoubleSeconds(elapsed);
  }

  // All of it, and what of higher priority than 0 will come before it, in work.
  double WorkAhead() const { return SumAbove(work_, kAll) / ShareFor(0); }
  // Until all of it is done. Zero before the engine's first step: nobody is refused on a guess.
  absl::Duration TimeFor() const { return TimeOf(SumAbove(work_, kAll)); }
  // Until a prompt of `more` work is done, too, that waits for its own and higher priorities, and
  // for those of higher priority that come meanwhile: as many as came lately.
  absl::Duration TimeFor(double more, int priority) const {
    return TimeOf((SumAbove(work_, int64_t{priority} - 1) + more) / ShareFor(priority));
  }
  absl::Duration TimeOf(double work) const {
    const double measured = SumAbove(measured_work_, kAll);
    return measured > 0 ? absl::Seconds(work * measured_seconds_ / measured) : absl::ZeroDuration();
  }

 private:
  // Priorities with less than one row of one layer: clients may name any number of them.
  static void Forget(Work& work) {
    std::erase_if(work, [](const auto& entry) { return entry.second < 1; });
  }
  static constexpr int64_t kAll = std::numeric_limits<int64_t>::min();
  static double SumAbove(const Work& work, int64_t priority) {
    double sum = 0;
    for (const auto& [of, amount] : work) sum += of > priority ? amount : 0;
    return sum;
  }
  // Of the engine's time, what higher priorities left of it lately.
  double ShareFor(int priority) const {
    constexpr double kLeast = 0.1;
    const double higher = SumAbove(measured_work_, priority);
    if (higher <= 0) return 1;
    return std::max(kLeast, 1 - absl::ToDoubleSeconds(TimeOf(higher)) / measured_elapsed_);
  }

  Work work_;
  Work measured_work_;
  double measured_seconds_ = 0;  // of steps
  double measured_elapsed_ = 0;  // with the pauses between them
};

}  // namespace winnow
