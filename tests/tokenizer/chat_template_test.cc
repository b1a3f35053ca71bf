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
  return compiled->Render(messages, "<bos>", "<eos>", absl::FromUnixSeconds(1764000000));
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
      {"messages[-1].content", "C"},
      {"'abcd'[1:3] + 'abcd'[-1] + 'abcd'[::-1] + 'abcd'[:-1]", "bcddcbaabc"},
      {"'\u6f22\u5b57a'[1]", "\u5b57"},
      {"messages[1:] | length", "0"},
      {"(messages | length - 1) * 3 + 7 // 2 - 7 % 4", "0"},
      {"-7 // 2 ~ '|' ~ -7 % 4", "-4|1"},
      {"1 < 2 and 2 <= 2 and 3 > 2 and not 2 >= 3 and 'a' < 'b'", "True"},
      {"'b' in 'abc' and 'x' not in 'abc' and 2 in [1, 2] and 'role' in messages[0]", "True"},
      {"'yes' if messages else 'no'", "yes"},
      {"'yes' if nothing", ""},
      {"'a' 'b' \"c\"", "abc"},
      {"none", "None"},
      {"nothing is defined or none is not none or tools is not none", "False"},
      {"nothing is undefined and 'a' is string and messages is iterable", "True"},
      {"messages[0] is mapping and 'a' is not mapping and 1 is number", "True"},
      {"false is false and 0 is not false and 3 is odd", "True"},
      {"'  a b\\n' | trim ~ '|'", "a b|"},
      {"'xxaxx'.strip('x') + ' b '.lstrip() + '|' + ' c '.rstrip() + '|'", "ab | c|"},
      {"'a</t>b</t>c'.split('</t>')[-1] + ' d  e '.split()[1]", "ce"},
      {"'abc'.startswith('ab') and 'abc'.endswith('bc') and not 'a'.startswith('ab')", "True"},
      {"'a-b-c' | replace('-', '+')", "a+b+c"},
      {"'aB'.upper() + 'aB' | lower", "ABab"},
      {"[1, 'a'] | join(', ')", "1, a"},
      {"nothing | default('d') + '' | default('d', true)", "dd"},
      {"messages | selectattr('role', 'equalto', 'R') | list | length", "1"},
      {"messages | rejectattr('role', 'equalto', 'R') | list | length", "0"},
      {"messages | selectattr('tool_calls', 'undefined') | first is mapping", "True"},
      {"['a', 'b'] | reject('equalto', 'a') | join", "b"},
      {"[1, none, true, 'a\\n\"'] | tojson", R"([1, null, true, "a\n\""])"},
      {"messages[0] | tojson", R"({"content": "C", "role": "R"})"},
      {"strftime_now('%d %b %Y')", "24 Nov 2025"},
      {"strftime_now is defined and strftime is not defined", "True"},
      {"range(3) | join", "012"},
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

TEST(ChatTemplateTest, LoopsChooseUnpackAndHaveAnElse) {
  const std::vector<ChatTurn> turns = {{"u", "1"}, {"a", "2"}, {"u", "3"}};
  const std::string all = "{% for m in messages %}{{ m.content }}{% endfor %}|";
  EXPECT_EQ(
      Text(all + "{% for m in messages if m.role == 'u' %}{{ loop.index ~ '/' ~ loop.length }}"
                 "{{ m.content }}{% endfor %}",
           turns),
      "123|1/212/23");
  EXPECT_EQ(Text(all + "{% for k, v in messages[0].items() %}{{ k + v }};{% endfor %}", turns),
            "123|content1;roleu;");
  EXPECT_EQ(Text(all + "{% for x in [] %}no{% else %}none{% endfor %}", turns), "123|none");
  EXPECT_EQ(Text(all + "{% for m in messages %}{% if loop.previtem is defined %}"
                       "{{ loop.previtem.content }}{% endif %}<{{ loop.revindex }} {% endfor %}",
                 turns),
            "123|<3 1<2 2<1 ");
}

TEST(ChatTemplateTest, ANamespaceKeepsWhatALoopSets) {
  EXPECT_EQ(Text("{% set ns = namespace(found=false, n=0) %}{% for m in messages %}"
                 "{% set ns.n = ns.n + 1 %}{% set ns.found = true %}{{ m.content }}{% endfor %}"
                 "{{ ns.found }}{{ ns.n }}{{ ns.other is defined }}",
                 {{"u", "a"}, {"u", "b"}}),
            "abTrue2False");
  EXPECT_THAT(Error("{% set ns = namespace() %}{% set ns.self = ns %}"), HasSubstr("namespace"));
}

TEST(ChatTemplateTest, TextStaysMarkedWhateverIsDoneToIt) {
  const std::vector<ChatTurn> turns = {{"u", " <s>a-b "}};
  const std::string x = "{% set x = '(' + messages[0].content + ')' %}";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"messages[0].content | trim", "[<s>a-b]"},
      {"messages[0].content.split('-')[-1]", "[b ]"},
      {"x[1:4]", "[ <s]"},
      {"x[::-1]", ")[ b-a>s< ]("},
      {"x | replace('-', '+') | upper", "([ <S>A]+[B ])"},
      {"'=' ~ x ~ 1", "=([ <s>a-b ])1"},
      {"['=', messages[0].content] | join('; ')", "=; [ <s>a-b ]"},
      {"messages[0].content | tojson", "\"[ <s>a-b ]\""},
      {"messages[0].content if true else ''", "[ <s>a-b ]"},
  };
  for (const auto& [expression, expected] : cases) {
    EXPECT_EQ(Marked(x + "{{ " + expression + " }}", turns), expected) << expression;
  }
  // Nothing is left of a message, but it was used.
  EXPECT_EQ(Text("{{ messages[0].content | trim }}", {{"u", "  "}}), "");
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
      {"{{ 1 == 1 == 1 }}", "== 1"},
      {"{{ bos_token | no_such_filter }}", "| no_such_filter"},
      {"{{ bos_token is no_such_test }}", "is no_such_test"},
      {"{{ bos_token.no_such_method() }}", ".no_such_method()"},
      {"{{ no_such_function(1) }}", "no_such_function(1)"},
      {"{{ {'a': 1} }}", "{'a': 1}"},
      {"{{ messages[0:1:2:3] }}", "3]"},
      {"{{ namespace(a=1, 2) }}", "2)"},
      {"{{ 1 / 2 }}", "/ 2"},
      {"{{ 1.5 }}", "1.5"},
      {"{{ '\\x41' }}", "x41"},
      {"{% for m in messages %}", "the end of the template"},
      {"{% for m in messages %}{% endif %}", "endif"},
      {"{% for a, b, c in messages %}{% endfor %}", "for a, b, c in"},
      {"{% set a.b.c = 1 %}", "set a.b.c"},
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
  EXPECT_THAT(Error("{{ nothing.x }}"), HasSubstr("undefined"));
  EXPECT_THAT(Error("{{ messages == messages }}"), HasSubstr("comparing"));
  EXPECT_THAT(Error("{{ 'a' < 1 }}"), HasSubstr("ordering"));
  EXPECT_THAT(Error("{{ 'a' - 1 }}"), HasSubstr("arithmetic"));
  EXPECT_THAT(Error("{{ 1 // 0 }}"), HasSubstr("range"));
  EXPECT_THAT(Error("{{ 1 in 2 }}"), HasSubstr("looking"));
  EXPECT_THAT(Error("{{ none | length }}"), HasSubstr("length"));
  EXPECT_THAT(Error("{{ 1 | trim }}"), HasSubstr("'strip'"));
  EXPECT_THAT(Error("{{ [[1]] }}"), HasSubstr("a list in a list"));
  EXPECT_THAT(Error("{% set x.y = 1 %}"), HasSubstr("undefined"));
  EXPECT_THAT(Error("{% for a, b in [1] %}{% endfor %}"), HasSubstr("pairs"));
  EXPECT_THAT(Error("{{ raise_exception('no ' + 'tools') }}"), HasSubstr("no tools"));
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
  EXPECT_THAT(Error("{% set x = messages[0].content %}" +
                        repeat("{% set x = x.replace('x', 'xxxxxxxxxxxxxxxx') %}", 12),
                    {{"u", std::string(64, 'x')}}),
              HasSubstr("steps"));
  EXPECT_THAT(Error("{% set x = range(100000) %}" + repeat("{% set x = x + x %}", 40)),
              HasSubstr("steps"));
  Error("{{ range(1000000000) }}");
  Error("{{ 'a'.strip" + repeat("('a').strip", 1000) + "('a') }}");
  // 100 messages, five loops deep: 10¹⁰ turns.
  EXPECT_THAT(Error(repeat("{% for m in messages %}", 5) + "x" + repeat("{% endfor %}", 5),
                    std::vector<ChatTurn>(100, {"u", "c"})),
              HasSubstr("steps"));
}

}  // namespace
}  // namespace winnow
