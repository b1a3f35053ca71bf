#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/clock.h"
#include "winnow/v1/model.pb.h"

namespace winnow {

// A worker's registration with the routers of --register-with; destroying it leaves them.
class RegistrationByFlags {
 public:
  // `info` is the worker's, `listening` the address of its server, taken where --advertise is
  // empty. Registers nowhere without --register-with. `clock` must outlive it. INVALID_ARGUMENT: a
  // flag's value is bad.
  static absl::StatusOr<std::unique_ptr<RegistrationByFlags>> Start(v1::WorkerInfo info,
                                                                    const std::string& listening,
                                                                    const Clock& clock);
  ~RegistrationByFlags();

 private:
  struct Parts;
  explicit RegistrationByFlags(std::unique_ptr<Parts> parts);

  const std::unique_ptr<Parts> parts_;  // null: nowhere
};

}  // namespace winnow
