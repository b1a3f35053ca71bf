#include "worker/registration_flags.h"

#include <utility>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "common/program_flags.h"
#include "common/status_macros.h"
#include "rpc/tls_flags.h"
#include "worker/worker_registration.h"

ABSL_FLAG(
    std::string, register_with, "",
    "routers to register with, separated by commas: host:port, or dns:///host:port for one at "
    "every address that the name has; they need --accept-registrations");
ABSL_FLAG(std::string, advertise, "",
          "host:port that routers and workers reach this worker at; empty: what it listens on");
ABSL_FLAG(int64_t, register_ttl_ms, 10'000,
          "how long a router counts on this worker without news; renewed three times in it");

namespace winnow {
namespace {

constexpr absl::Duration kResolvePeriod = absl::Seconds(5);

}  // namespace

struct RegistrationByFlags::Parts {
  Parts(const std::vector<std::string>& routers, const Clock& clock,
        WorkerRegistration::Options options)
      : routers(routers, resolver, kResolvePeriod),
        registration(this->routers, clock, std::move(options)) {}

  SystemResolver resolver;
  const AddressList routers;
  const WorkerRegistration registration;
};

RegistrationByFlags::RegistrationByFlags(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
RegistrationByFlags::~RegistrationByFlags() = default;

absl::StatusOr<std::unique_ptr<RegistrationByFlags>> RegistrationByFlags::Start(
    v1::WorkerInfo info, const std::string& listening, const Clock& clock) {
  const absl::StatusOr<std::vector<std::string>> routers =
      AddressList::Parse(absl::GetFlag(FLAGS_register_with));
  if (!routers.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--register-with: ", std::string(routers.status().message())));
  }
  WINNOW_RETURN_IF_ERROR(
      CheckFlagRange("register-ttl-ms", absl::GetFlag(FLAGS_register_ttl_ms), 1'000, 120'000));
  std::unique_ptr<Parts> parts;
  if (!routers->empty()) {
    WINNOW_ASSIGN_OR_RETURN(const std::string address,
                            AdvertisedAddress(absl::GetFlag(FLAGS_advertise), listening));
    info.set_address(address);
    parts = std::make_unique<Parts>(
        *routers, clock,
        WorkerRegistration::Options{.info = std::move(info),
                                    .ttl = absl::Milliseconds(absl::GetFlag(FLAGS_register_ttl_ms)),
                                    .tls = TlsFilesOfFlags()});
  }
  return std::unique_ptr<RegistrationByFlags>(new RegistrationByFlags(std::move(parts)));
}

}  // namespace winnow
