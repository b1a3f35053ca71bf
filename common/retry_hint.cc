#include "common/retry_hint.h"

#include <algorithm>
#include <cstdint>
#include <string>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace winnow {
namespace {

constexpr char kPayloadUrl[] = "winnow/retry-after-ms";

}  // namespace

void SetRetryAfter(absl::Status& status, absl::Duration delay) {
  if (status.ok()) return;
  const int64_t ms = absl::ToInt64Milliseconds(
      absl::Ceil(std::max(delay, absl::ZeroDuration()), absl::Milliseconds(1)));
  status.SetPayload(kPayloadUrl, absl::Cord(absl::StrCat(ms)));
}

std::optional<absl::Duration> GetRetryAfter(const absl::Status& status) {
  const auto payload = status.GetPayload(kPayloadUrl);
  int64_t ms = 0;
  if (!payload.has_value() || !absl::SimpleAtoi(std::string(*payload), &ms) || ms < 0)
    return std::nullopt;
  return absl::Milliseconds(ms);
}

}  // namespace winnow
