#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace winnow {

// A piece of a chat template's source: text, the inside of {{ … }} or the inside of {% … %}.
struct TemplateToken {
  enum class Kind { kText, kOutput, kStatement, kEnd };
  Kind kind = Kind::kEnd;
  std::string text;
};

// Cuts up the source, ending with a kEnd. White space is treated as chat templates are rendered
// elsewhere (Jinja with trim_blocks and lstrip_blocks): the line break after %} or #} goes, so do
// blanks between a line's start and {% or {#; a minus sign inside a tag strips all white space on
// its side; one line break at the very end goes. INVALID_ARGUMENT: a tag without its end.
absl::StatusOr<std::vector<TemplateToken>> LexTemplate(const std::string& source);

}  // namespace winnow
