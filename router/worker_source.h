#pragma once

#include <string>
#include <vector>

#include "winnow/v1/model.pb.h"

namespace winnow {

// Where one worker is and what it does.
struct WorkerAddress {
  std::string address;  // host:port
  v1::WorkerRole role = v1::WORKER_ROLE_UNSPECIFIED;

  friend bool operator==(const WorkerAddress&, const WorkerAddress&) = default;
};

// One way to know who the workers are.
class WorkerSource {
 public:
  virtual ~WorkerSource() = default;
  // Who they are at this moment, in an order that stays. Never blocks. Thread-safe.
  virtual std::vector<WorkerAddress> Workers() const = 0;
};

}  // namespace winnow
