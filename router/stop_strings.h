#pragma once

#include <string>
#include <vector>

namespace winnow {

// Ends a stream of text before the first of some strings. Text that may be the beginning of one is
// held back.
class StopStrings {
 public:
  explicit StopStrings(std::vector<std::string> stops) : stops_(std::move(stops)) {}

  // Text that is safe to show now. After a stop was found, always nothing.
  std::string Add(const std::string& text);
  // What was held back, once the end is known.
  std::string Flush();
  bool found() const { return found_; }

 private:
  const std::vector<std::string> stops_;
  std::string held_;
  bool found_ = false;
};

}  // namespace winnow
