#include "tokenizer/chat_template.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "tokenizer/template_expression.h"

namespace winnow {
namespace {

constexpr int64_t kMaxSteps = 1'000'000;  // statements executed by one rendering

struct Statement;
using Block = std::vector<Statement>;

struct Statement {
  enum class Kind { kText, kOutput, kFor, kIf, kSet };
  Kind kind = Kind::kText;
  std::string text;  // kText; the variable of kFor and kSet
  std::vector<TemplateExpression> conditions;  // kOutput, kFor, kSet: one; kIf: one per branch but else
  std::vector<Block> blocks;                   // kFor: one; kIf: one per branch
};

std::string Trim(const std::string& s) {
  const size_t begin = s.find_first_not_of(" \t\r\n");
  if (begin == std::string::npos) return "";
  return s.substr(begin, s.find_last_not_of(" \t\r\n") - begin + 1);
}

absl::Status Unsupported(const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat("chat template: ", what, " is not supported"));
}

// One piece of the source: text, {{ … }} or {% … %}.
struct Token {
  enum class Kind { kText, kOutput, kStatement, kEnd };
  Kind kind = Kind::kEnd;
  std::string text;
};

// Splits the source; {%- and -%} strip white space as Jinja does.
absl::StatusOr<std::vector<Token>> Tokenize(const std::string& source) {
  std::vector<Token> tokens;
  bool strip_next = false;
  size_t at = 0;
  while (at < source.size()) {
    const size_t open = source.find('{', at);
    const bool is_tag = open != std::string::npos && open + 1 < source.size() &&
                        (source[open + 1] == '{' || source[open + 1] == '%' || source[open + 1] == '#');
    if (open != std::string::npos && !is_tag) {
      // A brace that is text.
      const size_t end = source.find('{', open + 1);
      const std::string text = source.substr(at, (end == std::string::npos ? source.size() : end) - at);
      tokens.push_back({Token::Kind::kText, text});
      at = end == std::string::npos ? source.size() : end;
      continue;
    }
    std::string text = source.substr(at, open == std::string::npos ? std::string::npos : open - at);
    if (strip_next) text.erase(0, text.find_first_not_of(" \t\r\n"));
    strip_next = false;
    if (open == std::string::npos) {
      if (!text.empty()) tokens.push_back({Token::Kind::kText, text});
      break;
    }
    const char kind = source[open + 1];
    const std::string close = kind == '{' ? "}}" : kind == '%' ? "%}" : "#}";
    const size_t end = source.find(close, open + 2);
    if (end == std::string::npos) return Unsupported("a tag without its end");
    std::string inside = source.substr(open + 2, end - open - 2);
    if (!inside.empty() && inside.front() == '-') {
      inside.erase(0, 1);
      text.erase(text.find_last_not_of(" \t\r\n") + 1);
    }
    if (!inside.empty() && inside.back() == '-') {
      inside.pop_back();
      strip_next = true;
    }
    if (!text.empty()) tokens.push_back({Token::Kind::kText, text});
    if (kind != '#') tokens.push_back({kind == '{' ? Token::Kind::kOutput : Token::Kind::kStatement, Trim(inside)});
    at = end + 2;
  }
  tokens.push_back({});
  return tokens;
}

class Compiler {
 public:
  explicit Compiler(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  absl::StatusOr<Block> Compile() {
    WINNOW_ASSIGN_OR_RETURN(Block block, ParseBlock());
    if (current().kind != Token::Kind::kEnd) return Unsupported("{% " + current().text + " %}");
    return block;
  }

 private:
  const Token& current() const { return tokens_[at_]; }
  static std::string FirstWord(const std::string& text) { return text.substr(0, text.find_first_of(" \t\r\n")); }
  static std::string Rest(const std::string& text) { return Trim(text.substr(FirstWord(text).size())); }

  // Up to a statement that does not begin one of its own (endfor, elif, …).
  absl::StatusOr<Block> ParseBlock() {
    Block block;
    while (true) {
      const Token token = current();
      if (token.kind == Token::Kind::kEnd) return block;
      Statement statement;
      if (token.kind == Token::Kind::kText) {
        statement.text = token.text;
        ++at_;
      } else if (token.kind == Token::Kind::kOutput) {
        statement.kind = Statement::Kind::kOutput;
        WINNOW_RETURN_IF_ERROR(AddExpression(token.text, statement));
        ++at_;
      } else {
        const std::string word = FirstWord(token.text);
        if (word != "for" && word != "if" && word != "set") return block;
        ++at_;
        WINNOW_ASSIGN_OR_RETURN(statement, word == "for"  ? ParseFor(Rest(token.text))
                                           : word == "if" ? ParseIf(Rest(token.text))
                                                          : ParseSet(Rest(token.text)));
      }
      block.push_back(std::move(statement));
    }
  }

  static absl::Status AddExpression(const std::string& source, Statement& statement) {
    WINNOW_ASSIGN_OR_RETURN(TemplateExpression expression, TemplateExpression::Parse(source));
    statement.conditions.push_back(std::move(expression));
    return absl::OkStatus();
  }
  absl::Status Expect(const std::string& word) {
    if (current().kind != Token::Kind::kStatement || current().text != word) {
      return Unsupported("a block that is not ended by " + word);
    }
    ++at_;
    return absl::OkStatus();
  }

  absl::StatusOr<Statement> ParseFor(const std::string& header) {
    Statement statement{.kind = Statement::Kind::kFor, .text = FirstWord(header)};
    const std::string rest = Rest(header);
    if (FirstWord(rest) != "in") return Unsupported("{% for " + header + " %}");
    WINNOW_RETURN_IF_ERROR(AddExpression(Rest(rest), statement));
    WINNOW_ASSIGN_OR_RETURN(Block body, ParseBlock());
    statement.blocks.push_back(std::move(body));
    WINNOW_RETURN_IF_ERROR(Expect("endfor"));
    return statement;
  }
  absl::StatusOr<Statement> ParseIf(const std::string& condition) {
    Statement statement{.kind = Statement::Kind::kIf};
    WINNOW_RETURN_IF_ERROR(AddExpression(condition, statement));
    while (true) {
      WINNOW_ASSIGN_OR_RETURN(Block body, ParseBlock());
      statement.blocks.push_back(std::move(body));
      const Token token = current();
      if (token.kind != Token::Kind::kStatement) return Unsupported("an if without endif");
      ++at_;
      if (token.text == "endif") return statement;
      if (FirstWord(token.text) == "elif" && statement.blocks.size() == statement.conditions.size()) {
        WINNOW_RETURN_IF_ERROR(AddExpression(Rest(token.text), statement));
      } else if (token.text != "else" || statement.blocks.size() > statement.conditions.size()) {
        return Unsupported("{% " + token.text + " %}");
      }
    }
  }
  static absl::StatusOr<Statement> ParseSet(const std::string& assignment) {
    const size_t equals = assignment.find('=');
    Statement statement{.kind = Statement::Kind::kSet, .text = Trim(assignment.substr(0, equals))};
    if (equals == std::string::npos) return Unsupported("{% set " + assignment + " %}");
    WINNOW_RETURN_IF_ERROR(AddExpression(assignment.substr(equals + 1), statement));
    return statement;
  }

  const std::vector<Token> tokens_;
  size_t at_ = 0;
};

class Renderer {
 public:
  explicit Renderer(TemplateScope scope) : scope_(std::move(scope)) {}

  absl::Status Run(const Block& block) {
    for (const Statement& statement : block) {
      if (++steps_ > kMaxSteps) return absl::InvalidArgumentError("chat template: rendering takes too many steps");
      WINNOW_RETURN_IF_ERROR(Run(statement));
    }
    return absl::OkStatus();
  }
  std::vector<ChatTemplate::Part> TakeParts() { return std::move(parts_); }

 private:
  absl::Status Run(const Statement& s) {
    switch (s.kind) {
      case Statement::Kind::kText: Emit(s.text, false); break;
      case Statement::Kind::kOutput: {
        const TemplateValue value = s.conditions[0].Evaluate(scope_);
        const bool is_number = value.kind == TemplateValue::Kind::kInteger;
        Emit(is_number ? absl::StrCat(value.integer) : value.string, value.is_content);
        break;
      }
      case Statement::Kind::kSet: scope_[s.text] = s.conditions[0].Evaluate(scope_); break;
      case Statement::Kind::kFor: return RunFor(s);
      case Statement::Kind::kIf:
        for (size_t i = 0; i < s.blocks.size(); ++i) {
          if (i >= s.conditions.size() || s.conditions[i].Evaluate(scope_).IsTrue()) return Run(s.blocks[i]);
        }
    }
    return absl::OkStatus();
  }
  absl::Status RunFor(const Statement& s) {
    const TemplateValue list = s.conditions[0].Evaluate(scope_);
    const TemplateScope outer = scope_;
    for (size_t i = 0; i < list.list.size(); ++i) {
      TemplateValue loop{.kind = TemplateValue::Kind::kObject};
      loop.object["first"] = TemplateValue::Bool(i == 0);
      loop.object["last"] = TemplateValue::Bool(i + 1 == list.list.size());
      loop.object["index0"] = TemplateValue::Integer(static_cast<int64_t>(i));
      loop.object["index"] = TemplateValue::Integer(static_cast<int64_t>(i) + 1);
      scope_["loop"] = std::move(loop);
      scope_[s.text] = list.list[i];
      WINNOW_RETURN_IF_ERROR(Run(s.blocks[0]));
    }
    scope_ = outer;
    return absl::OkStatus();
  }
  void Emit(const std::string& text, bool is_content) {
    if (text.empty()) return;
    if (!parts_.empty() && parts_.back().is_content == is_content) {
      parts_.back().text += text;
    } else {
      parts_.push_back({text, is_content});
    }
  }

  TemplateScope scope_;
  std::vector<ChatTemplate::Part> parts_;
  int64_t steps_ = 0;
};

size_t TotalSize(const std::vector<ChatTemplate::Part>& parts) {
  size_t size = 0;
  for (const ChatTemplate::Part& part : parts) size += part.text.size();
  return size;
}

}  // namespace

struct ChatTemplate::Program {
  Block block;
};

absl::StatusOr<ChatTemplate> ChatTemplate::Create(const std::string& source) {
  WINNOW_ASSIGN_OR_RETURN(std::vector<Token> tokens, Tokenize(source));
  auto program = std::make_shared<Program>();
  WINNOW_ASSIGN_OR_RETURN(program->block, Compiler(std::move(tokens)).Compile());
  ChatTemplate out;
  out.program_ = std::move(program);
  return out;
}

absl::StatusOr<std::vector<ChatTemplate::Part>> ChatTemplate::Render(const std::vector<ChatTurn>& messages,
                                                                     const std::string& bos_token,
                                                                     const std::string& eos_token) const {
  const auto render = [&](const std::vector<ChatTurn>& turns) -> absl::StatusOr<std::vector<Part>> {
    TemplateValue list{.kind = TemplateValue::Kind::kList};
    for (const ChatTurn& turn : turns) {
      TemplateValue message{.kind = TemplateValue::Kind::kObject};
      message.object["role"] = TemplateValue::String(turn.role);
      message.object["content"] = TemplateValue::String(turn.content, /*is_content=*/true);
      list.list.push_back(std::move(message));
    }
    TemplateScope scope;
    scope["messages"] = std::move(list);
    scope["add_generation_prompt"] = TemplateValue::Bool(true);
    scope["bos_token"] = TemplateValue::String(bos_token);
    scope["eos_token"] = TemplateValue::String(eos_token);
    Renderer renderer(std::move(scope));
    WINNOW_RETURN_IF_ERROR(renderer.Run(program_->block));
    return renderer.TakeParts();
  };
  for (size_t i = 0; i < messages.size(); ++i) {  // a role that the template does not know leaves no trace
    WINNOW_ASSIGN_OR_RETURN(const std::vector<Part> with, render({{messages[i].role, "x"}}));
    WINNOW_ASSIGN_OR_RETURN(const std::vector<Part> without, render({}));
    if (TotalSize(with) == TotalSize(without)) {
      return absl::InvalidArgumentError(
          absl::StrCat("chat: message ", i, ": the model's template has no role '", messages[i].role, "'"));
    }
  }
  return render(messages);
}

}  // namespace winnow
