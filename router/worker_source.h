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

// One way to learn who the workers are. The registry asks.
class WorkerSource {
 public:
  virtual ~WorkerSource() = default;
  // The workers at this moment, in a stable order. Never blocks. Thread-safe.
  virtual std::vector<WorkerAddress> Workers() const = 0;
};

}  // namespace winnow
