#include "tokenizer/template_lexer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "common/utf8.h"

namespace winnow {
namespace {

constexpr char kWhiteSpace[] = " \t\r\n\f\v";

std::string Trim(const std::string& text) {
  const size_t begin = text.find_first_not_of(kWhiteSpace);
  if (begin == std::string::npos) return "";
  return text.substr(begin, text.find_last_not_of(kWhiteSpace) - begin + 1);
}

// Line breaks as \n, without one at the very end.
std::string NormalizeLines(const std::string& source) {
  std::string out;
  for (size_t at = 0; at < source.size(); ++at) {
    if (source[at] == '\r' && at + 1 < source.size() && source[at + 1] == '\n') continue;
    out.push_back(source[at] == '\r' ? '\n' : source[at]);
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

class Lexer {
 public:
  explicit Lexer(const std::string& source) : source_(NormalizeLines(source)) {}

  absl::StatusOr<std::vector<TemplateToken>> Run() {
    while (true) {
      const size_t open = FindTag();
      std::string text = source_.substr(at_, open - at_);
      if (open == source_.size()) {
        Add(TemplateToken::Kind::kText, std::move(text));
        tokens_.push_back({});
        return std::move(tokens_);
      }
      const char kind = source_[open + 1];
      WINNOW_ASSIGN_OR_RETURN(const size_t close, FindEnd(open, kind));
      std::string inside = source_.substr(open + 2, close - open - 2);
      StripBefore(kind, inside, text);
      Add(TemplateToken::Kind::kText, std::move(text));
      at_ = close + 2;
      StripAfter(kind, inside);
      if (kind == '{') tokens_.push_back({TemplateToken::Kind::kOutput, Trim(inside)});
      if (kind == '%') tokens_.push_back({TemplateToken::Kind::kStatement, Trim(inside)});
    }
  }

 private:
  void Add(TemplateToken::Kind kind, std::string text) {
    if (!text.empty()) tokens_.push_back({kind, std::move(text)});
  }
  // Where the next tag begins, or the end.
  size_t FindTag() const {
    for (size_t at = source_.find('{', at_); at != std::string::npos;
         at = source_.find('{', at + 1)) {
      const char next = at + 1 < source_.size() ? source_[at + 1] : '\0';
      if (next == '{' || next == '%' || next == '#') return at;
    }
    return source_.size();
  }
  // Where the tag's closing }}, %} or #} begins; those in string literals don't count.
  absl::StatusOr<size_t> FindEnd(size_t open, char kind) const {
    const char first = kind == '{' ? '}' : kind;
    char quote = '\0';
    for (size_t at = open + 2; at + 1 < source_.size(); ++at) {
      const char c = source_[at];
      if (quote != '\0') {
        if (c == '\\') ++at;
        if (c == quote) quote = '\0';
      } else if (c == first && source_[at + 1] == '}') {
        return at;
      } else if (kind != '#' && (c == '\'' || c == '"')) {
        quote = c;
      }
    }
    return absl::InvalidArgumentError(
        absl::StrCat("'", CutUtf8(std::string_view(source_).substr(open), 40), "' has no end"));
  }
  void StripBefore(char kind, std::string& inside, std::string& text) const {
    if (!inside.empty() && inside.front() == '-') {
      inside.erase(0, 1);
      text.erase(text.find_last_not_of(kWhiteSpace) + 1);
      return;
    }
    if (kind == '{') return;
    const size_t line = text.rfind('\n');
    if (line == std::string::npos && !is_line_start_) return;
    const size_t begin = line == std::string::npos ? 0 : line + 1;
    if (text.find_first_not_of(kWhiteSpace, begin) == std::string::npos) text.erase(begin);
  }
  void StripAfter(char kind, std::string& inside) {
    const size_t tag_end = at_;
    if (!inside.empty() && inside.back() == '-') {
      inside.pop_back();
      at_ = std::min(source_.find_first_not_of(kWhiteSpace, at_), source_.size());
    } else if (kind != '{' && at_ < source_.size() && source_[at_] == '\n') {
      ++at_;
    }
    is_line_start_ = at_ > tag_end && source_[at_ - 1] == '\n';
  }

  const std::string source_;
  std::vector<TemplateToken> tokens_;
  size_t at_ = 0;
  bool is_line_start_ = true;
};

}  // namespace

absl::StatusOr<std::vector<TemplateToken>> LexTemplate(const std::string& source) {
  return Lexer(source).Run();
}

}  // namespace winnow
