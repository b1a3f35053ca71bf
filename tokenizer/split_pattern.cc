#include "tokenizer/split_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "absl/strings/str_cat.h"
#include "tokenizer/json_field.h"

namespace winnow {
namespace {

using Json = nlohmann::json;

// Of one match. Ordinary patterns take a few steps per byte, so that a run of blanks as long as the
// router's largest request (16 MiB) still passes; a pattern that explodes is stopped within a
// second.
constexpr uint32_t kMatchLimit = 100'000'000;
constexpr uint32_t kHeapLimitKib =
    64 * 1024;  // of the interpreter, used where there is no JIT or its stack is full

std::string PcreMessage(int code) {
  PCRE2_UCHAR buffer[256];
  pcre2_get_error_message(code, buffer, sizeof(buffer));
  return reinterpret_cast<const char*>(buffer);
}

// PCRE2's \s holds U+180E, which is no white space since Unicode 6.3 and none to the tokenizers
// library.
std::string WithUnicodeWhiteSpace(const std::string& pattern) {
  std::string out;
  for (size_t at = 0; at < pattern.size(); ++at) {
    if (pattern[at] != '\\' || at + 1 == pattern.size()) {
      out += pattern[at];
      continue;
    }
    const char escaped = pattern[++at];
    if (escaped == 's') {
      out += R"(\p{White_Space})";
    } else if (escaped == 'S') {
      out += R"(\P{White_Space})";
    } else {
      out += {'\\', escaped};
    }
  }
  return out;
}

// What one Split call needs of PCRE2.
class Matcher {
 public:
  Matcher(const pcre2_code* code, std::string_view text)
      : code_(code),
        text_(text),
        data_(pcre2_match_data_create_from_pattern(code, nullptr), pcre2_match_data_free),
        context_(pcre2_match_context_create(nullptr), pcre2_match_context_free) {
    pcre2_set_match_limit(context_.get(), kMatchLimit);
    pcre2_set_heap_limit(context_.get(), kHeapLimitKib);
  }

  // PCRE2's result of the search from `at` on.
  int Find(size_t at) {
    const int found = Match(at, 0);
    // Compiled code keeps its state on a 32 KiB stack, the interpreter on the heap.
    return found == PCRE2_ERROR_JIT_STACKLIMIT ? Match(at, PCRE2_NO_JIT) : found;
  }
  size_t begin() const { return pcre2_get_ovector_pointer(data_.get())[0]; }
  size_t end() const { return pcre2_get_ovector_pointer(data_.get())[1]; }

 private:
  int Match(size_t at, uint32_t options) {
    return pcre2_match(code_, reinterpret_cast<PCRE2_SPTR>(text_.data()), text_.size(), at,
                       options | PCRE2_NO_UTF_CHECK, data_.get(), context_.get());
  }

  const pcre2_code* code_;
  const std::string_view text_;
  std::unique_ptr<pcre2_match_data, void (*)(pcre2_match_data*)> data_;
  std::unique_ptr<pcre2_match_context, void (*)(pcre2_match_context*)> context_;
};

}  // namespace

absl::StatusOr<SplitPattern> SplitPattern::CreateRegex(const std::string& pattern) {
  return Compile(WithUnicodeWhiteSpace(pattern), PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C);
}

absl::StatusOr<SplitPattern> SplitPattern::CreateLiteral(const std::string& text) {
  return Compile(text, PCRE2_UTF | PCRE2_LITERAL);
}

absl::StatusOr<SplitPattern> SplitPattern::Create(const Json& json, const std::string& where) {
  const Json& regex = Field(json, "Regex");
  const Json& literal = Field(json, "String");
  if (regex.is_string() == literal.is_string() || literal == "") {
    return Unexpected(where, "one Regex or String", json);
  }
  absl::StatusOr<SplitPattern> pattern = regex.is_string()
                                             ? CreateRegex(regex.get<std::string>())
                                             : CreateLiteral(literal.get<std::string>());
  if (!pattern.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": ", pattern.status().message()));
  }
  return pattern;
}

absl::StatusOr<SplitPattern> SplitPattern::Compile(const std::string& pattern, uint32_t options) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                   options, &error, &offset, nullptr);
  if (code == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("split pattern '", pattern, "', at offset ",
                                                   offset, ": ", PcreMessage(error)));
  }
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);  // without JIT the pattern is interpreted
  SplitPattern out;
  out.code_ = std::shared_ptr<void>(
      code, [](void* owned) { pcre2_code_free(static_cast<pcre2_code*>(owned)); });
  return out;
}

absl::Status SplitPattern::Split(std::string_view text, const Piece& piece) const {
  Matcher matcher(static_cast<const pcre2_code*>(code_.get()), text);
  size_t done = 0;  // everything before is in a piece
  for (size_t at = 0; at < text.size();) {
    const int found = matcher.Find(at);
    if (found == PCRE2_ERROR_NOMATCH) break;
    if (found < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("text: splitting at byte ", at, ": ", PcreMessage(found)));
    }
    if (matcher.end() <=
        matcher.begin()) {  // an empty match splits nothing: on to the next character
      at = matcher.begin() + 1;
      while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) ++at;
      continue;
    }
    if (matcher.begin() > done) piece(text.substr(done, matcher.begin() - done), false);
    piece(text.substr(matcher.begin(), matcher.end() - matcher.begin()), true);
    done = at = matcher.end();
  }
  if (done < text.size()) piece(text.substr(done), false);
  return absl::OkStatus();
}

}  // namespace winnow
