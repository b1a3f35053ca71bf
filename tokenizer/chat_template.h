#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace winnow {

struct ChatTurn {
  std::string role;
  std::string content;
};

// A model's chat template: the part of Jinja that such templates are made of — text, {{ expression }}, for over a list, if /
// elif / else, set; expressions of names, strings, integers, booleans, subscripts and attributes, loop.first / .last /
// .index0, + == != and or not, and parentheses. Whatever else it holds is refused when it is compiled. Immutable.
class ChatTemplate {
 public:
  // INVALID_ARGUMENT quotes what is not supported.
  static absl::StatusOr<ChatTemplate> Create(const std::string& source);

  // Rendered text in parts. Text that came out of a message's content is marked, so that it can never become a special token.
  struct Part {
    std::string text;
    bool is_content = false;
  };
  // Renders with add_generation_prompt. INVALID_ARGUMENT: a message left no trace (the template ignores its role), or
  // rendering takes too many steps.
  absl::StatusOr<std::vector<Part>> Render(const std::vector<ChatTurn>& messages, const std::string& bos_token,
                                           const std::string& eos_token) const;

 private:
  struct Program;
  std::shared_ptr<const Program> program_;
};

}  // namespace winnow
