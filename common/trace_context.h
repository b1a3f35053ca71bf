#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace winnow {

// Where in a distributed trace a call stands: W3C Trace Context, the header "traceparent".
struct TraceContext {
  std::string trace_id;   // 32 lower-case hexadecimal digits, not all 0
  std::string parent_id;  // 16 of them: the caller's span
  bool sampled = false;

  // A new trace, from the system's random bits.
  static TraceContext New();
  // Nothing when the header is not of the standard's form; a version above 00 may say more after
  // what is known.
  static std::optional<TraceContext> Parse(std::string_view traceparent);

  // The same trace with a span of our own.
  TraceContext Child() const;
  // As a header of version 00.
  std::string ToString() const;

  friend bool operator==(const TraceContext&, const TraceContext&) = default;
};

}  // namespace winnow
