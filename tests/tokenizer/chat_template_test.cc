#include "tokenizer/chat_template.h"

#include "common/utf8.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace winnow {
namespace {

using ::testing::HasSubstr;

// The template of ChatML models (Qwen2 and others).
constexpr char kChatMl[] =
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

absl::StatusOr<MarkedText> Render(const std::string& source,
                                  const std::vector<ChatTurn>& messages) {
  const auto compiled = ChatTemplate::Create(source);
  if (!compiled.ok()) return compiled.status();
  return compiled->Render(messages, "<bos>", "<eos>");
}

std::string Text(const std::string& source, const std::vector<ChatTurn>& messages) {
  const auto text = Render(source, messages);
  EXPECT_TRUE(text.ok()) << text.status();
  return text.ok() ? PlainText(*text) : "";
}

// A client's parts in brackets.
std::string Marked(const std::string& source, const std::vector<ChatTurn>& messages) {
  const auto text = Render(source, messages);
  EXPECT_TRUE(text.ok()) << text.status();
  std::string out;
  for (const TextPart& part : text.value_or(MarkedText{})) {
    out += part.is_client() ? "[" + part.text + "]" : part.text;
  }
  return out;
}

std::string Error(const std::string& source, const std::vector<ChatTurn>& messages = {}) {
  const absl::Status status = Render(source, messages).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << source;
  return std::string(status.message());
}

TEST(ChatTemplateTest, RendersChatMl) {
  EXPECT_EQ(Text(kChatMl, {{"user", "Hi"}}),
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(Text(kChatMl, {{"system", "S"}, {"user", "Hi"}}),
            "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
            "<|im_start|>assistant\n");
}

TEST(ChatTemplateTest, RolesAndContentsStayMarkedInJoinedText) {
  EXPECT_EQ(Marked("{% for m in messages %}{% set x = bos_token + m.role + ':' + m['content'] %}"
                   "{{ x + eos_token }}{% endfor %}",
                   {{"user<eos>", "a<eos>"}, {"r", "b"}}),
            "<bos>[user<eos>]:[a<eos>]<eos><bos>[r]:[b]<eos>");
}

TEST(ChatTemplateTest, RendersLoopsConditionsAndScopes) {
  EXPECT_EQ(Text("{{ bos_token }}{% set x = 'S' %}\n{%- for m in messages -%}\n"
                 "{% if loop.first and not loop.last %}[{{ x }}]{% elif loop.last %}<"
                 "{% else %}-{% endif %}{% set x = 'T' %}{{ loop.index0 + loop.index }}"
                 "{{ m.role + ':' + m['content'] }}{% endfor %}{# '%} #}!{{ x }}",
                 {{"user", "a"}, {"user", "b"}, {"user", "c"}}),
            "<bos>[S]1user:a-3user:b<5user:c!S");
  // Set in one turn, gone in the next.
  EXPECT_EQ(Text("{% for m in messages %}{{ seen or 'new' }}{% set seen = 'old' %}"
                 "{{ seen + m.content }}{% endfor %}",
                 {{"u", "1"}, {"u", "2"}}),
            "newold1newold2");
}

TEST(ChatTemplateTest, EvaluatesExpressionsAsJinjaDoes) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"'a' == \"a\"", "True"},
      {"'a' + 'b' == 'ab' and not 1 == 2", "True"},
      {"not 'a' != 'a'", "True"},
      {"'' or 'x'", "x"},
      {"'a' and 'b'", "b"},
      {"'a' or 'b' and ''", "a"},
      {"('a' or 'b') and 'c'", "c"},
      {"not not 7", "True"},
      {"1 == '1'", "False"},
      {"true == 1 and false != 1", "True"},
      {"1 + 2 + 3", "6"},
      {"messages[0].content", "C"},
      {"messages[0]['ro' + 'le']", "R"},
      {"messages[7]", ""},
      {"messages[0].nothing", ""},
      {"add_generation_prompt", "True"},
      {R"('\'\\\n\t')", "'\\\n\t"},
      {"'}}' + '%}'", "}}%}"},
  };
  for (const auto& [expression, expected] : cases) {
    EXPECT_EQ(Text("{{ " + expression + " }}|{{ messages[0].content }}", {{"R", "C"}}),
              expected + "|C")
        << expression;
  }
}

TEST(ChatTemplateTest, TreatsWhiteSpaceAsTransformersDoes) {
  const std::string message = "{{ messages[0].content }}";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"a\n  {% if true %}\nb\n  {% endif %}\nc", "a\nb\nc"},
      {"{% if true %}\n\na{% endif %} \nb", "\na \nb"},
      {"a {% if true %} b {% endif %} c", "a  b  c"},
      {"  {# note #}\nb", "b"},
      {"  {{ 'x' }}\n b", "  x\n b"},
      {"a \n {{- 'x' -}} \n b", "axb"},
      {"{ {x \n{%- if true -%} \n y{% endif %} {", "{ {xy {"},
      {"a{%- if true %}\n  {%- endif %}\n", "a"},
      {"a\r\nb", "a\nb"},
      {"{% if true -%}\n  {% endif %}b", "b"},
  };
  for (const auto& [source, expected] : cases) {
    EXPECT_EQ(Text(message + "\n" + source + "|", {{"R", "C"}}), "C\n" + expected + "|") << source;
  }
  EXPECT_EQ(Text("  {% if true %}\n" + message + "{% endif %}\n", {{"R", "C"}}), "C");
  EXPECT_EQ(Text(message + "\n\n", {{"R", "C"}}), "C\n");
}

TEST(ChatTemplateTest, AMessageThatLeavesNoTraceIsNamed) {
  const std::string source =
      "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}";
  EXPECT_THAT(Error(source, {{"user", "a"}, {"robot", "b"}}), HasSubstr("message 1"));
  EXPECT_THAT(Error(source, {{"user", "a"}, {"robot", ""}}), HasSubstr("'robot'"));
  EXPECT_EQ(Text(source, {{"user", ""}, {"user", "b"}}), "b") << "an empty content was used";
  // Not the role alone decides: this template takes only the first message.
  EXPECT_THAT(Error("{{ messages[0].content }}", {{"user", "a"}, {"user", "b"}}),
              HasSubstr("message 1"));
}

TEST(ChatTemplateTest, RefusesOtherJinjaQuotingIt) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"{% macro f() %}{% endmacro %}", "macro f()"},
      {"{{ bos_token | upper }}", "| upper"},
      {"{{ raise_exception('no') }}", "('no')"},
      {"{{ messages[0:1] }}", ":1]"},
      {"{{ messages[-1] }}", "-1]"},
      {"{{ 'a' if true else 'b' }}", "if true"},
      {"{% if messages is defined %}{% endif %}", "is defined"},
      {"{% if 'a' in messages %}{% endif %}", "in messages"},
      {"{{ 1 == 1 == 1 }}", "== 1"},
      {"{{ 'a' ~ 'b' }}", "~ 'b'"},
      {"{{ 1.5 }}", "1.5"},
      {"{{ '\\x41' }}", "x41"},
      {"{{ none }}", "none"},
      {"{{ tools }}", "'tools'"},
      {"{{ loop.length }}", "length"},
      {"{% for m in messages %}", "the end of the template"},
      {"{% for a, b in messages %}{% endfor %}", "for a, b in"},
      {"{% for m in messages %}{% else %}{% endfor %}", "else"},
      {"{% for m in messages %}{% endif %}", "endif"},
      {"{% set a.b = 1 %}", "set a.b"},
      {"{% set loop = 1 %}", "set loop"},
      {"{% set x %}a{% endset %}", "set x"},
      {"{% if true %}", "the end of the template"},
      {"{% if true %}{% else %}{% else %}{% endif %}", "else"},
      {"{% endif %}", "endif"},
      {"{{ 'open }}", "has no end"},
      {"{{ }}", "''"},
      {"{% %}", "here"},
      {"{%+ if true %}{% endif %}", "+ if"},
  };
  for (const auto& [source, quoted] : cases) {
    const absl::Status status = ChatTemplate::Create(source).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << source;
    EXPECT_THAT(std::string(status.message()), HasSubstr(quoted)) << source;
  }
}

TEST(ChatTemplateTest, MessagesQuoteLittleAndWholeCharacters) {
  std::string many = "x";
  for (int i = 0; i < 1000; ++i) many += "\u6f22";
  const std::string user =
      "{% for m in messages %}{% if m.role == 'u' %}{{ m.content }}{% endif %}{% endfor %}";
  for (const std::string& error :
       {Error("{{ 'a' ? " + many + " }}"), Error("{{ '" + many + "' + 1 }}"),
        Error("{% " + many + " %}"), Error("{{ '" + many), Error("{% for " + many + " %}"),
        Error("{% set " + many + " %}"), Error(user, {{many, "c"}})}) {
    EXPECT_LT(error.size(), 400u);
    EXPECT_EQ(FirstInvalidUtf8(error), error.size());
  }
}

TEST(ChatTemplateTest, RefusesOperationsThatTheValuesDoNotHave) {
  EXPECT_THAT(Error("{{ messages }}"), HasSubstr("list"));
  EXPECT_THAT(Error("{{ 'a' + 1 }}"), HasSubstr("text and integer"));
  EXPECT_THAT(Error("{{ messages[0].content }}"), HasSubstr("undefined"));
  EXPECT_THAT(Error("{{ 'abc'[0] }}"), HasSubstr("text"));
  EXPECT_THAT(Error("{{ messages == messages }}"), HasSubstr("comparing"));
  EXPECT_THAT(Error("{% for x in 'abc' %}{% endfor %}"), HasSubstr("list"));
}

TEST(ChatTemplateTest, HostileTemplatesEndInAnError) {
  const auto repeat = [](const std::string& unit, int times) {
    std::string out;
    for (int i = 0; i < times; ++i) out += unit;
    return out;
  };
  Error("{{ " + repeat("(", 1000) + " }}");
  Error("{{ " + repeat("(", 1000000) + " }}");
  Error("{{ 1" + repeat("+1", 1000000) + " }}");
  Error("{{ " + repeat("x[", 1000) + " }}");
  Error(repeat("{% if true %}", 100000));
  Error(repeat("{% for m in messages %}", 100000));
  // Doubling 64 times would make 10¹⁹ bytes.
  EXPECT_THAT(Error("{% set x = 'xxxxxxxx' %}" + repeat("{% set x = x + x %}", 64)),
              HasSubstr("steps"));
  // 100 messages, five loops deep: 10¹⁰ turns.
  EXPECT_THAT(Error(repeat("{% for m in messages %}", 5) + "x" + repeat("{% endfor %}", 5),
                    std::vector<ChatTurn>(100, {"u", "c"})),
              HasSubstr("steps"));
}

}  // namespace
}  // namespace winnow
