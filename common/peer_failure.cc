#include "common/peer_failure.h"

#include "absl/strings/cord.h"

namespace winnow {
namespace {

constexpr char kPayloadUrl[] = "winnow/peer-failed";

}  // namespace

void SetPeerFailed(absl::Status& status) {
  if (!status.ok()) status.SetPayload(kPayloadUrl, absl::Cord());
}

bool IsPeerFailed(const absl::Status& status) { return status.GetPayload(kPayloadUrl).has_value(); }

}  // namespace winnow
