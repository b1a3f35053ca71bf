#include "tokenizer/template_program.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "common/utf8.h"
#include "tokenizer/template_lexer.h"

namespace winnow {
namespace {

constexpr int kMaxNesting = 32;  // bounds the recursion of compiling and rendering

using Block = TemplateBlock;
using Statement = TemplateStatement;

absl::Status Unsupported(const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat(what, " is not supported"));
}

std::string WithoutBlanks(const std::string& text) {
  const size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string::npos) return "";
  return text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1);
}

// "word rest" → word, rest without blanks around it.
std::pair<std::string, std::string> CutWord(const std::string& text) {
  const size_t end = std::min(text.find_first_of(" \t\r\n"), text.size());
  return {text.substr(0, end), WithoutBlanks(text.substr(end))};
}

// "a, b" → a, b.
std::vector<std::string> CutAt(const std::string& text, char mark) {
  std::vector<std::string> parts;
  size_t begin = 0;
  for (size_t at = text.find(mark); at != std::string::npos; at = text.find(mark, begin)) {
    parts.push_back(WithoutBlanks(text.substr(begin, at - begin)));
    begin = at + 1;
  }
  parts.push_back(WithoutBlanks(text.substr(begin)));
  return parts;
}

// Where the word stands alone in an expression, outside of texts and brackets; npos: nowhere.
size_t FindWord(const std::string& source, const std::string& word) {
  char quote = '\0';
  int depth = 0;
  for (size_t at = 0; at < source.size(); ++at) {
    const char c = source[at];
    if (quote != '\0') {
      if (c == '\\') {
        ++at;
      } else if (c == quote) {
        quote = '\0';
      }
    } else if (c == '\'' || c == '"') {
      quote = c;
    } else if (c == '(' || c == '[') {
      ++depth;
    } else if (c == ')' || c == ']') {
      --depth;
    } else if (depth == 0 && source.compare(at, word.size(), word) == 0 && at > 0 &&
               std::string(" \t\r\n").find(source[at - 1]) != std::string::npos &&
               at + word.size() < source.size() &&
               std::string(" \t\r\n(").find(source[at + word.size()]) != std::string::npos) {
      return at;
    }
  }
  return std::string::npos;
}

class Compiler {
 public:
  explicit Compiler(std::vector<TemplateToken> tokens) : tokens_(std::move(tokens)) {}

  absl::StatusOr<Block> Compile() {
    WINNOW_ASSIGN_OR_RETURN(Block block, ParseBlock());
    if (current().kind != TemplateToken::Kind::kEnd) return Unsupported(Quoted());
    return block;
  }

 private:
  const TemplateToken& current() const { return tokens_[at_]; }
  std::string Quoted() const {
    return current().kind == TemplateToken::Kind::kEnd
               ? "the end of the template here"
               : absl::StrCat("'{% ", CutUtf8(current().text, 160), " %}' here");
  }

  // Up to a statement that begins none of its own (endfor, elif, macro, …).
  absl::StatusOr<Block> ParseBlock() {
    if (++nesting_ > kMaxNesting) return Unsupported("nesting deeper than 32 blocks");
    Block block;
    while (current().kind != TemplateToken::Kind::kEnd) {
      const TemplateToken& token = current();
      Statement statement;
      if (token.kind == TemplateToken::Kind::kText) {
        statement.text = token.text;
        ++at_;
      } else if (token.kind == TemplateToken::Kind::kOutput) {
        statement.kind = Statement::Kind::kOutput;
        WINNOW_RETURN_IF_ERROR(AddExpression(token.text, statement));
        ++at_;
      } else {
        const auto [word, rest] = CutWord(token.text);
        if (word != "for" && word != "if" && word != "set") break;
        ++at_;
        WINNOW_ASSIGN_OR_RETURN(statement, word == "for"  ? ParseFor(rest)
                                           : word == "if" ? ParseIf(rest)
                                                          : ParseSet(rest));
      }
      block.push_back(std::move(statement));
    }
    --nesting_;
    return block;
  }

  absl::Status AddExpression(const std::string& source, Statement& statement) {
    WINNOW_ASSIGN_OR_RETURN(TemplateExpression expression, TemplateExpression::Parse(source));
    statement.expressions.push_back(std::move(expression));
    return absl::OkStatus();
  }
  static bool AreVariables(const std::vector<std::string>& names) {
    for (const std::string& name : names) {
      if (!IsTemplateName(name) || name == "loop") return false;
    }
    return names.size() <= 2;
  }

  // "a in list if condition", "a, b in list"
  absl::StatusOr<Statement> ParseFor(const std::string& header) {
    const std::string construct = absl::StrCat("'{% for ", CutUtf8(header, 160), " %}'");
    const size_t in = FindWord(header, "in");
    if (in == std::string::npos) return Unsupported(construct);
    Statement statement{.kind = Statement::Kind::kFor,
                        .variables = CutAt(WithoutBlanks(header.substr(0, in)), ',')};
    if (!AreVariables(statement.variables)) return Unsupported(construct);
    std::string list = WithoutBlanks(header.substr(in + 2));
    const size_t condition = FindWord(list, "if");
    const bool has_choice = FindWord(list, "else") != std::string::npos;
    if (condition != std::string::npos && !has_choice) {
      WINNOW_RETURN_IF_ERROR(AddExpression(list.substr(0, condition), statement));
      WINNOW_RETURN_IF_ERROR(AddExpression(list.substr(condition + 2), statement));
    } else {
      WINNOW_RETURN_IF_ERROR(AddExpression(list, statement));
    }
    WINNOW_ASSIGN_OR_RETURN(Block body, ParseBlock());
    statement.blocks.push_back(std::move(body));
    if (current().text == "else") {
      ++at_;
      WINNOW_ASSIGN_OR_RETURN(Block otherwise, ParseBlock());
      statement.blocks.push_back(std::move(otherwise));
    }
    if (current().text != "endfor") return Unsupported(Quoted());
    ++at_;
    return statement;
  }
  absl::StatusOr<Statement> ParseIf(const std::string& condition) {
    Statement statement{.kind = Statement::Kind::kIf};
    WINNOW_RETURN_IF_ERROR(AddExpression(condition, statement));
    bool has_else = false;
    while (true) {
      WINNOW_ASSIGN_OR_RETURN(Block body, ParseBlock());
      statement.blocks.push_back(std::move(body));
      const auto [word, rest] = CutWord(current().text);
      if (word == "endif" && rest.empty()) break;
      if (has_else || (word != "elif" && current().text != "else")) return Unsupported(Quoted());
      has_else = word == "else";
      if (!has_else) WINNOW_RETURN_IF_ERROR(AddExpression(rest, statement));
      ++at_;
    }
    ++at_;
    return statement;
  }
  // "name = value", "namespace.member = value"
  absl::StatusOr<Statement> ParseSet(const std::string& assignment) {
    const std::string construct = absl::StrCat("'{% set ", CutUtf8(assignment, 160), " %}'");
    const size_t equals = assignment.find('=');
    if (equals == std::string::npos) return Unsupported(construct);
    Statement statement{.kind = Statement::Kind::kSet,
                        .variables = CutAt(WithoutBlanks(assignment.substr(0, equals)), '.')};
    if (!AreVariables(statement.variables)) return Unsupported(construct);
    WINNOW_RETURN_IF_ERROR(AddExpression(assignment.substr(equals + 1), statement));
    return statement;
  }

  const std::vector<TemplateToken> tokens_;
  size_t at_ = 0;
  int nesting_ = 0;
};

}  // namespace

absl::StatusOr<TemplateBlock> CompileTemplate(const std::string& source) {
  WINNOW_ASSIGN_OR_RETURN(std::vector<TemplateToken> tokens, LexTemplate(source));
  return Compiler(std::move(tokens)).Compile();
}

}  // namespace winnow
