#include "common/trace_context.h"

#include <algorithm>
#include <cstdint>
#include <random>

#include "absl/strings/str_cat.h"

namespace winnow {
namespace {

// Fields stand at fixed places: 00-<32 digits>-<16 digits>-<2 digits>.
constexpr size_t kTraceAt = 3, kTraceDigits = 32;
constexpr size_t kParentAt = 36, kParentDigits = 16;
constexpr size_t kFlagsAt = 53, kLength = 55;

bool IsHex(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

bool IsId(std::string_view text) {
  return IsHex(text) && text.find_first_not_of('0') != std::string_view::npos;
}

// 16 digits, not all 0.
std::string RandomId() {
  static thread_local std::mt19937_64 random{(uint64_t{std::random_device{}()} << 32) ^
                                             std::random_device{}()};
  uint64_t bits = 0;
  while (bits == 0) bits = random();
  return absl::StrCat(absl::Hex(bits, absl::kZeroPad16));
}

}  // namespace

TraceContext TraceContext::New() {
  return {.trace_id = RandomId() + RandomId(), .parent_id = RandomId()};
}

std::optional<TraceContext> TraceContext::Parse(std::string_view header) {
  if (header.size() < kLength || header[2] != '-' || header[kParentAt - 1] != '-' ||
      header[kFlagsAt - 1] != '-') {
    return std::nullopt;
  }
  const std::string_view version = header.substr(0, 2), flags = header.substr(kFlagsAt, 2);
  const std::string_view trace = header.substr(kTraceAt, kTraceDigits);
  const std::string_view parent = header.substr(kParentAt, kParentDigits);
  if (!IsHex(version) || version == "ff" || !IsHex(flags) || !IsId(trace) || !IsId(parent)) {
    return std::nullopt;
  }
  const bool ends = header.size() == kLength;
  if (!ends && (version == "00" || header[kLength] != '-')) return std::nullopt;
  const char low = flags[1];
  const int digit = low <= '9' ? low - '0' : low - 'a' + 10;
  return TraceContext{std::string(trace), std::string(parent), (digit & 1) != 0};
}

TraceContext TraceContext::Child() const { return {trace_id, RandomId(), sampled}; }

std::string TraceContext::ToString() const {
  return absl::StrCat("00-", trace_id, "-", parent_id, sampled ? "-01" : "-00");
}

}  // namespace winnow
