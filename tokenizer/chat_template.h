#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tokenizer/marked_text.h"

namespace winnow {

struct ChatTurn {
  std::string role;
  std::string content;
};

// A model's chat template, in the part of Jinja that simple ones are made of: text, {{ expression
// }}, for over a list, if / elif / else, set, comments; expressions of names, text, integers,
// booleans, members (x.y, x['y'], x[0]), loop.first / last / index / index0, + == != and or not,
// parentheses. Names: messages, add_generation_prompt (true), bos_token, eos_token, and what the
// template sets. Whatever else it holds is refused when it is compiled. Immutable; thread-safe.
class ChatTemplate {
 public:
  // INVALID_ARGUMENT quotes what is not supported.
  static absl::StatusOr<ChatTemplate> Create(const std::string& source);

  // The text with the origin of each part: roles and contents stay marked as a client's wherever
  // the template takes them. REQUIRES: roles and contents are UTF-8. INVALID_ARGUMENT: a message's
  // content was not used (the template ignores its role), named with role and index; an operation
  // that the values' kinds don't have; rendering takes too many steps.
  absl::StatusOr<MarkedText> Render(const std::vector<ChatTurn>& messages,
                                    const std::string& bos_token,
                                    const std::string& eos_token) const;

 private:
  struct Program;
  std::shared_ptr<const Program> program_;
};

}  // namespace winnow
