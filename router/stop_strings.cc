#include "router/stop_strings.h"

#include <algorithm>
#include <utility>

namespace winnow {

std::string StopStrings::Add(const std::string& text) {
  if (found_) return "";
  held_ += text;
  size_t first = std::string::npos;
  for (const std::string& stop : stops_) first = std::min(first, held_.find(stop));
  if (first != std::string::npos) {
    found_ = true;
    held_.resize(first);
    return std::exchange(held_, "");
  }
  size_t keep = 0;  // length of the longest tail that begins a stop string
  for (const std::string& stop : stops_) {
    for (size_t length = std::min(held_.size(), stop.size() - 1); length > keep; --length) {
      if (held_.compare(held_.size() - length, length, stop, 0, length) == 0) {
        keep = length;
        break;
      }
    }
  }
  const std::string safe = held_.substr(0, held_.size() - keep);
  held_.erase(0, safe.size());
  return safe;
}

std::string StopStrings::Flush() { return found_ ? "" : std::exchange(held_, ""); }

}  // namespace winnow
