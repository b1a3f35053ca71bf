#include "tokenizer/chat_template.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "common/utf8.h"
#include "tokenizer/template_expression.h"
#include "tokenizer/template_program.h"

namespace winnow {
namespace {

using Block = TemplateBlock;
using Statement = TemplateStatement;

class Renderer {
 public:
  Renderer(TemplateScope scope, absl::Time now) : scope_(std::move(scope)), context_{{}, now} {}

  absl::Status Run(const Block& block) {
    for (const Statement& statement : block) {
      WINNOW_RETURN_IF_ERROR(context_.budget.Spend(statement.text.size()));
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
        WINNOW_RETURN_IF_ERROR(context_.budget.Spend(TextSize(printed)));
        Append(printed, text_);
        break;
      }
      case Statement::Kind::kSet:
        return RunSet(s);
      case Statement::Kind::kFor:
        return RunFor(s);
      case Statement::Kind::kIf:
        return RunIf(s);
    }
    return absl::OkStatus();
  }
  absl::Status RunSet(const Statement& s) {
    WINNOW_ASSIGN_OR_RETURN(TemplateValue value, Evaluate(s.expressions[0]));
    TemplateValue& variable = scope_[s.variables[0]];
    if (s.variables.size() == 2) return variable.SetMember(s.variables[1], std::move(value));
    variable = std::move(value);
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
    const TemplateScope outer = scope_;
    WINNOW_ASSIGN_OR_RETURN(const TemplateValue::List list, TurnsOf(s, value));
    for (size_t i = 0; i < list.size(); ++i) {
      scope_ = outer;
      WINNOW_RETURN_IF_ERROR(BindTurn(s, list[i]));
      scope_["loop"] = LoopObject(list, i);
      WINNOW_RETURN_IF_ERROR(Run(s.blocks[0]));
    }
    scope_ = outer;
    return list.empty() && s.blocks.size() > 1 ? Run(s.blocks[1]) : absl::OkStatus();
  }
  // The elements that pass the loop's condition.
  absl::StatusOr<TemplateValue::List> TurnsOf(const Statement& s, const TemplateValue& value) {
    if (value.is_undefined()) return TemplateValue::List{};
    if (value.list() == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat("for ", s.variables[0], " over no list (",
                                                     value.KindName(), ") is not supported"));
    }
    WINNOW_RETURN_IF_ERROR(context_.budget.SpendOn(value));
    if (s.expressions.size() < 2) return *value.list();
    const TemplateScope outer = scope_;
    TemplateValue::List turns;
    for (const TemplateValue& element : *value.list()) {
      WINNOW_RETURN_IF_ERROR(BindTurn(s, element));
      WINNOW_ASSIGN_OR_RETURN(const TemplateValue passes, Evaluate(s.expressions[1]));
      if (passes.IsTrue()) turns.push_back(element);
    }
    scope_ = outer;
    return turns;
  }
  absl::Status BindTurn(const Statement& s, const TemplateValue& element) {
    if (s.variables.size() == 1) {
      scope_[s.variables[0]] = element;
      return absl::OkStatus();
    }
    if (element.list() == nullptr || element.list()->size() != s.variables.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("for with two names over elements that are no pairs is not supported"));
    }
    for (size_t i = 0; i < s.variables.size(); ++i) scope_[s.variables[i]] = (*element.list())[i];
    return absl::OkStatus();
  }
  static TemplateValue LoopObject(const TemplateValue::List& list, size_t i) {
    const auto index = static_cast<int64_t>(i), size = static_cast<int64_t>(list.size());
    TemplateValue::Object loop = {{"first", TemplateValue::Bool(i == 0)},
                                  {"last", TemplateValue::Bool(index + 1 == size)},
                                  {"index0", TemplateValue::Integer(index)},
                                  {"index", TemplateValue::Integer(index + 1)},
                                  {"revindex0", TemplateValue::Integer(size - index - 1)},
                                  {"revindex", TemplateValue::Integer(size - index)},
                                  {"length", TemplateValue::Integer(size)}};
    if (i > 0) loop["previtem"] = list[i - 1];
    if (index + 1 < size) loop["nextitem"] = list[i + 1];
    return TemplateValue::MakeObject(std::move(loop));
  }
  absl::StatusOr<TemplateValue> Evaluate(const TemplateExpression& expression) {
    return expression.Evaluate(scope_, context_);
  }

  TemplateScope scope_;
  MarkedText text_;
  TemplateContext context_;
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
  auto program = std::make_shared<Program>();
  WINNOW_ASSIGN_OR_RETURN(program->block, CompileTemplate(source));
  ChatTemplate out;
  out.program_ = std::move(program);
  return out;
}

absl::StatusOr<MarkedText> ChatTemplate::Render(const std::vector<ChatTurn>& messages,
                                                const std::string& bos_token,
                                                const std::string& eos_token,
                                                absl::Time now) const {
  Renderer renderer({{"messages", MessageList(messages)},
                     {"tools", TemplateValue::None()},
                     {"documents", TemplateValue::None()},
                     {"add_generation_prompt", TemplateValue::Bool(true)},
                     {"bos_token", TemplateValue::Text(bos_token)},
                     {"eos_token", TemplateValue::Text(eos_token)}},
                    now);
  WINNOW_RETURN_IF_ERROR(renderer.Run(program_->block));
  MarkedText text = renderer.TakeText();
  WINNOW_RETURN_IF_ERROR(CheckAllUsed(messages, text));
  return text;
}

}  // namespace winnow
