#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "tokenizer/marked_text.h"

namespace winnow {

struct ChatTurn {
  std::string role;
  std::string content;
};

// A model's chat template, in the part of Jinja that the templates of the supported families are
// made of: text, {{ expression }}, for (with if, else and two names), if / elif / else, set (of
// names and of a namespace's members), comments; expressions of names, text, integers, booleans,
// none, lists, members, slices, arithmetic, comparisons, in, and / or / not, ~, if else, and the
// functions, methods, filters and tests of template_builtins.h. Names: messages,
// add_generation_prompt (true), bos_token, eos_token, tools and documents (none), and what the
// template sets; others are undefined. Whatever else it holds is refused when it is compiled.
// Immutable; thread-safe.
class ChatTemplate {
 public:
  // INVALID_ARGUMENT quotes what is not supported.
  static absl::StatusOr<ChatTemplate> Create(const std::string& source);

  // The text with the origin of each part: roles and contents stay marked as a client's wherever
  // the template takes them. REQUIRES: roles and contents are UTF-8. INVALID_ARGUMENT: a message's
  // content was not used (the template ignores its role), named with role and index; an operation
  // that the values' kinds don't have; raise_exception, with its text; rendering takes too many
  // steps. `now` is the time that strftime_now tells, in UTC.
  absl::StatusOr<MarkedText> Render(const std::vector<ChatTurn>& messages,
                                    const std::string& bos_token, const std::string& eos_token,
                                    absl::Time now) const;

 private:
  struct Program;
  std::shared_ptr<const Program> program_;
};

}  // namespace winnow
