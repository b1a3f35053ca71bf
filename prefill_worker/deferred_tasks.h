#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <list>
#include <mutex>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "common/deadline.h"
#include "engine/device/backend.h"

namespace winnow {

// Runs tasks on a thread of its own, each as soon as what it waits for has come: nothing, a time,
// or a point in a device's queue. No task waits for another task's time or event, so an event that
// never fires holds up nothing but its own task. Tasks must not block. Thread-safe.
class DeferredTasks {
 public:
  // `clock` must outlive it. The thread has this name.
  DeferredTasks(std::string name, const Clock& clock);
  // Runs the tasks that are left, those which wait for a time at once and those which wait for an
  // event with CANCELLED, and joins.
  ~DeferredTasks();
  DeferredTasks(const DeferredTasks&) = delete;
  DeferredTasks& operator=(const DeferredTasks&) = delete;

  // Tasks run in the order in which they were added.
  void Run(std::function<void()> task);
  // After the clock has reached `when`.
  void RunAt(absl::Time when, std::function<void()> task);
  // `task` gets OK once `event` is done, the queue's error, or DEADLINE_EXCEEDED after `latest`.
  void RunWhenDone(EventPtr event, Deadline latest, std::function<void(const absl::Status&)> task);

 private:
  struct Waiting {
    EventPtr event;    // null: waits for the time alone
    absl::Time until;  // the task's time, or the last moment for the event
    std::function<void(const absl::Status&)> task;
  };

  void Loop();
  // The following are called with the lock held. Moves what has come from waiting_ to ready_.
  void CollectReady();
  void Add(Waiting waiting);
  absl::Duration NextLook() const;

  const Clock& clock_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> ready_;
  std::list<Waiting> waiting_;
  bool added_ = false;  // since the thread looked last
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace winnow
