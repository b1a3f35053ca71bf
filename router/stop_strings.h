#pragma once

#include <string>
#include <vector>

namespace winnow {

// Cuts a stream of text before the first stop string. Holds back text that may be the beginning of
// a stop string. Not thread-safe.
class StopStrings {
 public:
  explicit StopStrings(std::vector<std::string> stops) : stops_(std::move(stops)) {}

  // Appends `text`; returns the text that is safe to send now. Empty once a stop string was found.
  std::string Add(const std::string& text);
  // Returns what is held back. Call when no more text follows.
  std::string Flush();
  bool found() const { return found_; }

 private:
  const std::vector<std::string> stops_;
  std::string held_;
  bool found_ = false;
};

}  // namespace winnow
