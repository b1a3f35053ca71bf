#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "engine/device/backend.h"
#include "plan/ledger.h"

namespace winnow {

// When the stages of one step ended in a device's queue, so that their times are the device's own
// and nobody waits to take them. Stages follow one another without gaps.
class StageTimeline {
 public:
  // Begins here. `backend` must outlive it.
  explicit StageTimeline(Backend& backend) : backend_(backend), begin_(backend.Mark()) {}

  // What was enqueued since the last end belongs to `stage`.
  void End(double StageTimes::*stage) {
    if (!ends_.empty() && ends_.back().stage == stage) ends_.pop_back();
    ends_.push_back({stage, backend_.Mark()});
  }

  // REQUIRES: the queue has passed the last end.
  void AddTo(StageTimes& times) const {
    const Moment* last = begin_.get();
    for (const auto& [stage, end] : ends_) {
      times.*stage += end->SecondsSince(*last);
      last = end.get();
    }
  }

 private:
  struct StageEnd {
    double StageTimes::*stage;
    MomentPtr end;
  };
  Backend& backend_;
  MomentPtr begin_;
  std::vector<StageEnd> ends_;
};

}  // namespace winnow
