#include "router/driver_events.h"

namespace winnow {

const char* DriverStageName(DriverStage stage) {
  switch (stage) {
    case DriverStage::kPlace:
      return "place";
    case DriverStage::kPrefill:
      return "prefill";
    case DriverStage::kResend:
      return "resend";
    case DriverStage::kDecode:
      return "decode";
  }
  return "unknown";
}

}  // namespace winnow
