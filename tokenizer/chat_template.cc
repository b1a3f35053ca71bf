#include "tokenizer/chat_template.h"

#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "common/utf8.h"
#include "tokenizer/template_expression.h"
#include "tokenizer/template_lexer.h"

namespace winnow {
namespace {

constexpr int kMaxNesting = 32;  // bounds the recursion of compiling and rendering

struct Statement;
using Block = std::vector<Statement>;

struct Statement {
  enum class Kind { kText, kOutput, kFor, kIf, kSet };
  Kind kind = Kind::kText;
  std::string text;  // of kText; the variable of kFor and kSet
  std::vector<TemplateExpression>
      expressions;            // kOutput, kFor, kSet: one; kIf: all branches but else
  std::vector<Block> blocks;  // kFor: one; kIf: one per branch
};

absl::Status Unsupported(const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat(what, " is not supported"));
}

// "word rest" → word, rest without blanks around it.
std::pair<std::string, std::string> CutWord(const std::string& text) {
  const size_t end = std::min(text.find_first_of(" \t\r\n"), text.size());
  const size_t rest = std::min(text.find_first_not_of(" \t\r\n", end), text.size());
  return {text.substr(0, end), text.substr(rest)};
}

class Compiler {
 public:
  explicit Compiler(std::vector<TemplateToken> tokens) : tokens_(std::move(tokens)) {}

  absl::StatusOr<Block> Compile() {
    WINNOW_ASSIGN_OR_RETURN(Block block, ParseBlock());
    if (current().kind != TemplateToken::Kind::kEnd) return Unsupported(Quoted());
    for (const std::string& name : read_) {
      if (known_.count(name) == 0) return Unsupported(absl::StrCat("the name '", name, "'"));
    }
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
    read_.insert(expression.names().begin(), expression.names().end());
    statement.expressions.push_back(std::move(expression));
    return absl::OkStatus();
  }
  absl::Status AddVariable(const std::string& name, const std::string& construct) {
    if (!IsTemplateName(name) || name == "loop") return Unsupported(construct);
    known_.insert(name);
    return absl::OkStatus();
  }

  absl::StatusOr<Statement> ParseFor(const std::string& header) {
    const auto [variable, rest] = CutWord(header);
    const auto [in, list] = CutWord(rest);
    const std::string construct = absl::StrCat("'{% for ", CutUtf8(header, 160), " %}'");
    if (in != "in") return Unsupported(construct);
    WINNOW_RETURN_IF_ERROR(AddVariable(variable, construct));
    Statement statement{.kind = Statement::Kind::kFor, .text = variable};
    WINNOW_RETURN_IF_ERROR(AddExpression(list, statement));
    WINNOW_ASSIGN_OR_RETURN(Block body, ParseBlock());
    statement.blocks.push_back(std::move(body));
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
  absl::StatusOr<Statement> ParseSet(const std::string& assignment) {
    const std::string construct = absl::StrCat("'{% set ", CutUtf8(assignment, 160), " %}'");
    const size_t equals = assignment.find('=');
    if (equals == std::string::npos) return Unsupported(construct);
    const std::string target = assignment.substr(0, equals);
    const std::string variable = target.substr(0, target.find_last_not_of(" \t\r\n") + 1);
    WINNOW_RETURN_IF_ERROR(AddVariable(variable, construct));
    Statement statement{.kind = Statement::Kind::kSet, .text = variable};
    WINNOW_RETURN_IF_ERROR(AddExpression(assignment.substr(equals + 1), statement));
    return statement;
  }

  const std::vector<TemplateToken> tokens_;
  size_t at_ = 0;
  int nesting_ = 0;
  std::set<std::string> read_;
  std::set<std::string> known_ = {"messages", "add_generation_prompt", "bos_token", "eos_token",
                                  "loop"};
};

class Renderer {
 public:
  explicit Renderer(TemplateScope scope) : scope_(std::move(scope)) {}

  absl::Status Run(const Block& block) {
    for (const Statement& statement : block) {
      WINNOW_RETURN_IF_ERROR(budget_.Spend(statement.text.size()));
      WINNOW_RETURN_IF_ERROR(Run(statement));
    }
    return absl::OkStatus();
  }
  MarkedText TakeText() { return std::move(text_); }

 private:
  absl::Status Run(const Statement& s) {
    switch (s.kind) {
      case Statement::Kind::kText:
        Append(TextPart{s.text}, text_);
        break;
      case Statement::Kind::kOutput: {
        WINNOW_ASSIGN_OR_RETURN(const TemplateValue value, Evaluate(s.expressions[0]));
        WINNOW_ASSIGN_OR_RETURN(const MarkedText printed, value.Print());
        WINNOW_RETURN_IF_ERROR(budget_.Spend(TextSize(printed)));
        Append(printed, text_);
        break;
      }
      case Statement::Kind::kSet: {
        WINNOW_ASSIGN_OR_RETURN(scope_[s.text], Evaluate(s.expressions[0]));
        break;
      }
      case Statement::Kind::kFor:
        return RunFor(s);
      case Statement::Kind::kIf:
        return RunIf(s);
    }
    return absl::OkStatus();
  }
  absl::Status RunIf(const Statement& s) {
    for (size_t i = 0; i < s.expressions.size(); ++i) {
      WINNOW_ASSIGN_OR_RETURN(const TemplateValue condition, Evaluate(s.expressions[i]));
      if (condition.IsTrue()) return Run(s.blocks[i]);
    }
    return s.blocks.size() > s.expressions.size() ? Run(s.blocks.back()) : absl::OkStatus();
  }
  // What a turn of the loop sets is gone after it, as in Jinja.
  absl::Status RunFor(const Statement& s) {
    WINNOW_ASSIGN_OR_RETURN(const TemplateValue value, Evaluate(s.expressions[0]));
    if (value.is_undefined()) return absl::OkStatus();
    if (value.list() == nullptr) return Unsupported(absl::StrCat("for ", s.text, " over no list"));
    const TemplateValue::List& list = *value.list();
    const TemplateScope outer = scope_;
    for (size_t i = 0; i < list.size(); ++i) {
      const auto index = static_cast<int64_t>(i);
      scope_ = outer;
      scope_[s.text] = list[i];
      scope_["loop"] =
          TemplateValue::MakeObject({{"first", TemplateValue::Bool(i == 0)},
                                     {"last", TemplateValue::Bool(i + 1 == list.size())},
                                     {"index0", TemplateValue::Integer(index)},
                                     {"index", TemplateValue::Integer(index + 1)}});
      WINNOW_RETURN_IF_ERROR(Run(s.blocks[0]));
    }
    scope_ = outer;
    return absl::OkStatus();
  }
  absl::StatusOr<TemplateValue> Evaluate(const TemplateExpression& expression) {
    return expression.Evaluate(scope_, budget_);
  }

  TemplateScope scope_;
  MarkedText text_;
  RenderBudget budget_;
};

TemplateValue MessageList(const std::vector<ChatTurn>& messages) {
  TemplateValue::List list;
  for (size_t i = 0; i < messages.size(); ++i) {
    list.push_back(TemplateValue::MakeObject(
        {{"role", TemplateValue::Text(messages[i].role, TextPart::kClient)},
         {"content", TemplateValue::Text(messages[i].content, static_cast<int32_t>(i))}}));
  }
  return TemplateValue::MakeList(std::move(list));
}

absl::Status CheckAllUsed(const std::vector<ChatTurn>& messages, const MarkedText& text) {
  std::vector<bool> is_used(messages.size(), false);
  for (const TextPart& part : text) {
    if (part.origin >= 0) is_used[part.origin] = true;
  }
  for (size_t i = 0; i < messages.size(); ++i) {
    if (is_used[i]) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("message ", i, ": the model's chat template does not use a message of role '",
                     CutUtf8(messages[i].role, 64), "' here"));
  }
  return absl::OkStatus();
}

}  // namespace

struct ChatTemplate::Program {
  Block block;
};

absl::StatusOr<ChatTemplate> ChatTemplate::Create(const std::string& source) {
  WINNOW_ASSIGN_OR_RETURN(std::vector<TemplateToken> tokens, LexTemplate(source));
  auto program = std::make_shared<Program>();
  WINNOW_ASSIGN_OR_RETURN(program->block, Compiler(std::move(tokens)).Compile());
  ChatTemplate out;
  out.program_ = std::move(program);
  return out;
}

absl::StatusOr<MarkedText> ChatTemplate::Render(const std::vector<ChatTurn>& messages,
                                                const std::string& bos_token,
                                                const std::string& eos_token) const {
  Renderer renderer({{"messages", MessageList(messages)},
                     {"add_generation_prompt", TemplateValue::Bool(true)},
                     {"bos_token", TemplateValue::Text(bos_token)},
                     {"eos_token", TemplateValue::Text(eos_token)}});
  WINNOW_RETURN_IF_ERROR(renderer.Run(program_->block));
  MarkedText text = renderer.TakeText();
  WINNOW_RETURN_IF_ERROR(CheckAllUsed(messages, text));
  return text;
}

}  // namespace winnow
