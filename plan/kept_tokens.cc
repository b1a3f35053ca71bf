#include "plan/kept_tokens.h"

#include <algorithm>

namespace winnow {

std::vector<PositionSpan> ProtectedSpans(const SelectionConfig& config, int64_t end) {
  std::vector<PositionSpan> spans = config.protected_spans;
  spans.push_back({0, config.protected_prefix});
  std::sort(spans.begin(), spans.end(),
            [](const PositionSpan& a, const PositionSpan& b) { return a.begin < b.begin; });
  std::vector<PositionSpan> merged;
  for (PositionSpan span : spans) {
    span.end = std::min(span.end, end);
    if (span.begin >= span.end) continue;
    if (!merged.empty() && span.begin <= merged.back().end) {
      merged.back().end = std::max(merged.back().end, span.end);
    } else {
      merged.push_back(span);
    }
  }
  return merged;
}

int64_t NumKept(const SelectionConfig& config, int64_t num_prompt_tokens, int64_t always_kept) {
  int64_t protected_tokens = 0;
  for (const PositionSpan& span : ProtectedSpans(config, num_prompt_tokens - always_kept)) {
    protected_tokens += span.end - span.begin;
  }
  return std::max({always_kept + 1, config.min_kept_tokens,
                   config.keep_ppm * num_prompt_tokens / 1'000'000,
                   protected_tokens + always_kept});
}

}  // namespace winnow
