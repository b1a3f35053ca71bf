#include "tokenizer/template_builtins.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/status_macros.h"
#include "common/utf8.h"
#include "tokenizer/template_json.h"

namespace winnow {
namespace {

using Value = TemplateValue;
using Arguments = TemplateArguments;

constexpr int64_t kMaxRange = 100'000;

absl::Status CannotApply(const std::string& name, const Arguments& arguments) {
  return absl::InvalidArgumentError(
      absl::StrCat("'", name, "' with these arguments is not supported for ",
                   arguments.values.empty() ? "nothing" : arguments.values[0].KindName()));
}

// The argument at `index` (0 is what it is applied to) or of that name; undefined: there is none.
Value Argument(const Arguments& arguments, size_t index, const std::string& name) {
  if (index < arguments.values.size()) return arguments.values[index];
  const auto it = arguments.named.find(name);
  return it == arguments.named.end() ? Value() : it->second;
}

// Unicode's white space, as Python's str.strip() has it.
bool IsWhiteSpace(uint32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
         c == 0x205F || c == 0x3000;
}

// Text without characters of `set` (undefined or none: white space) at its beginning or end.
Value Strip(const MarkedText& text, const Value& set, bool at_begin, bool at_end) {
  const std::string plain = PlainText(text);
  const std::string characters = set.text() == nullptr ? "" : PlainText(*set.text());
  const auto goes = [&](size_t at, int length) {
    if (set.text() == nullptr) return IsWhiteSpace(DecodeUtf8(plain, at, length));
    return characters.find(plain.substr(at, length)) != std::string::npos;
  };
  size_t begin = 0, end = plain.size();
  while (at_begin && begin < end) {
    const int length = Utf8Length(plain, begin);
    if (length == 0 || !goes(begin, length)) break;
    begin += length;
  }
  while (at_end && begin < end) {
    size_t last = end - 1;
    while (last > begin && (static_cast<unsigned char>(plain[last]) & 0xC0) == 0x80) --last;
    const int length = Utf8Length(plain, last);
    if (length == 0 || last + length != end || !goes(last, length)) break;
    end = last;
  }
  return Value::Text(SliceText(text, begin, end));
}

// Python's str.split(separator), or without one at white space.
Value Split(const MarkedText& text, const Value& separator) {
  const std::string plain = PlainText(text);
  Value::List parts;
  const auto add = [&](size_t begin, size_t end) {
    parts.push_back(Value::Text(SliceText(text, begin, end)));
  };
  size_t begin = 0;
  if (separator.text() != nullptr) {
    const std::string mark = PlainText(*separator.text());
    for (size_t at = plain.find(mark); at != std::string::npos; at = plain.find(mark, begin)) {
      add(begin, at);
      begin = at + mark.size();
    }
    add(begin, plain.size());
    return Value::MakeList(std::move(parts));
  }
  size_t at = 0;
  for (; at < plain.size();) {
    const int length = std::max(1, Utf8Length(plain, at));
    if (IsWhiteSpace(DecodeUtf8(plain, at, length))) {
      if (begin < at) add(begin, at);
      begin = at + length;
    }
    at += length;
  }
  if (begin < at) add(begin, at);
  return Value::MakeList(std::move(parts));
}

absl::StatusOr<Value> Replace(const MarkedText& text, const std::string& from, const MarkedText& to,
                              TemplateContext& context) {
  const std::string plain = PlainText(text);
  MarkedText out;
  size_t begin = 0;
  for (size_t at = plain.find(from); at != std::string::npos; at = plain.find(from, begin)) {
    WINNOW_RETURN_IF_ERROR(context.budget.Spend(at - begin + TextSize(to)));
    Append(SliceText(text, begin, at), out);
    Append(to, out);
    begin = at + from.size();
  }
  Append(SliceText(text, begin, plain.size()), out);
  return Value::Text(std::move(out));
}

// ASCII letters only: the templates ask it of roles.
Value ChangeCase(MarkedText text, bool upper) {
  for (TextPart& part : text) {
    for (char& c : part.text) {
      if (upper && c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
      if (!upper && c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    }
  }
  return Value::Text(std::move(text));
}

// [[name, value], …]
Value Items(const Value::Object& object) {
  Value::List items;
  for (const auto& [name, value] : object) {
    items.push_back(Value::MakeList({Value::Text(name), value}));
  }
  return Value::MakeList(std::move(items));
}

absl::StatusOr<Value> TextMethod(const std::string& name, const Arguments& arguments,
                                 TemplateContext& context) {
  const MarkedText* text = arguments.values[0].text();
  if (text == nullptr || !arguments.named.empty() || arguments.values.size() > 3) {
    return CannotApply(name, arguments);
  }
  const Value argument = Argument(arguments, 1, "");
  const bool has_text = argument.text() != nullptr && TextSize(*argument.text()) > 0;
  if (name == "strip") return Strip(*text, argument, true, true);
  if (name == "lstrip") return Strip(*text, argument, true, false);
  if (name == "rstrip") return Strip(*text, argument, false, true);
  if (name == "upper" || name == "lower") return ChangeCase(*text, name == "upper");
  if (name == "split" && arguments.values.size() < 3 &&
      (has_text || argument.is_undefined() || argument.is_none())) {
    return Split(*text, argument);
  }
  if (name == "startswith" || name == "endswith") {
    if (argument.text() == nullptr) return CannotApply(name, arguments);
    const std::string plain = PlainText(*text), part = PlainText(*argument.text());
    if (part.size() > plain.size()) return Value::Bool(false);
    const size_t at = name == "startswith" ? 0 : plain.size() - part.size();
    return Value::Bool(plain.compare(at, part.size(), part) == 0);
  }
  const Value to = Argument(arguments, 2, "");
  if (name == "replace" && has_text && to.text() != nullptr) {
    return Replace(*text, PlainText(*argument.text()), *to.text(), context);
  }
  return CannotApply(name, arguments);
}

absl::StatusOr<Value> ObjectMethod(const std::string& name, const Arguments& arguments,
                                   TemplateContext&) {
  const Value& of = arguments.values[0];
  if (of.object() == nullptr) return CannotApply(name, arguments);
  if (name == "items") return Items(*of.object());
  if (name == "keys") {
    Value::List keys;
    for (const auto& [key, value] : *of.object()) keys.push_back(Value::Text(key));
    return Value::MakeList(std::move(keys));
  }
  WINNOW_ASSIGN_OR_RETURN(Value found, of.At(Argument(arguments, 1, "")));
  if (!found.is_undefined()) return found;
  const Value otherwise = Argument(arguments, 2, "");
  return otherwise.is_undefined() ? Value::None() : otherwise;
}

absl::StatusOr<Value> JoinFilter(const Arguments& arguments, TemplateContext& context) {
  const Value& of = arguments.values[0];
  const Value separator = Argument(arguments, 1, "d");
  const bool has_separator = separator.text() != nullptr;
  if (of.list() == nullptr || (!has_separator && !separator.is_undefined())) {
    return CannotApply("join", arguments);
  }
  MarkedText joined;
  for (size_t i = 0; i < of.list()->size(); ++i) {
    if (i > 0 && has_separator) Append(*separator.text(), joined);
    WINNOW_ASSIGN_OR_RETURN(const MarkedText printed, (*of.list())[i].Print());
    WINNOW_RETURN_IF_ERROR(context.budget.Spend(TextSize(printed)));
    Append(printed, joined);
  }
  return Value::Text(std::move(joined));
}

// select and reject test elements, selectattr and rejectattr a member of theirs.
absl::StatusOr<Value> SelectFilter(const std::string& name, const Arguments& arguments,
                                   TemplateContext& context) {
  const bool by_member = name == "selectattr" || name == "rejectattr";
  const bool keeps = name == "select" || name == "selectattr";
  const size_t test_at = by_member ? 2 : 1;
  const Value member = by_member ? Argument(arguments, 1, "") : Value();
  const Value test = Argument(arguments, test_at, "");
  const Value& of = arguments.values[0];
  const std::string test_name = test.text() == nullptr ? "" : PlainText(*test.text());
  const bool is_plain = test.is_undefined();  // whether it is true
  if (of.list() == nullptr || (by_member && member.text() == nullptr) ||
      (!is_plain && !IsTemplateTest(test_name))) {
    return CannotApply(name, arguments);
  }
  Value::List kept;
  for (const Value& element : *of.list()) {
    WINNOW_RETURN_IF_ERROR(context.budget.Spend());
    Value tested = element;
    if (by_member) {
      WINNOW_ASSIGN_OR_RETURN(tested, element.At(member));
    }
    bool passes = tested.IsTrue();
    if (!is_plain) {
      Arguments of_test{{tested}, {}};
      for (size_t i = test_at + 1; i < arguments.values.size(); ++i) {
        of_test.values.push_back(arguments.values[i]);
      }
      WINNOW_ASSIGN_OR_RETURN(passes, RunTemplateTest(test_name, of_test));
    }
    if (passes == keeps) kept.push_back(element);
  }
  return Value::MakeList(std::move(kept));
}

absl::StatusOr<Value> ListFilter(const std::string& name, const Arguments& arguments) {
  const Value& of = arguments.values[0];
  if (name == "first") return of.At(Value::Integer(0));
  if (name == "last") return of.At(Value::Integer(-1));
  if (of.list() != nullptr) return of;
  return CannotApply(name, arguments);
}

absl::StatusOr<Value> DefaultFilter(const Arguments& arguments) {
  const Value& of = arguments.values[0];
  const bool also_false = Argument(arguments, 2, "boolean").IsTrue();
  const bool stays = also_false ? of.IsTrue() : !of.is_undefined();
  return stays ? of : Argument(arguments, 1, "default_value");
}

const std::set<std::string> kTextMethods = {"strip",    "lstrip", "rstrip", "split",  "startswith",
                                            "endswith", "upper",  "lower",  "replace"};
const std::set<std::string> kObjectMethods = {"items", "keys", "get"};
const std::set<std::string> kSelectFilters = {"select", "reject", "selectattr", "rejectattr"};
const std::set<std::string> kFilters = {"trim",    "length",     "count",      "list",   "first",
                                        "last",    "join",       "upper",      "lower",  "replace",
                                        "default", "string",     "items",      "tojson", "select",
                                        "reject",  "selectattr", "rejectattr", "safe"};
const std::set<std::string> kTests = {"defined",  "undefined", "none",   "string",  "mapping",
                                      "iterable", "sequence",  "number", "boolean", "true",
                                      "false",    "odd",       "even",   "equalto", "eq",
                                      "ne",       "in"};

}  // namespace

bool IsTemplateFunction(const std::string& name) {
  return name == "namespace" || name == "raise_exception" || name == "strftime_now" ||
         name == "range";
}

absl::StatusOr<TemplateValue> CallTemplateFunction(const std::string& name,
                                                   const TemplateArguments& arguments,
                                                   TemplateContext& context) {
  if (name == "namespace" && arguments.values.empty()) {
    const Value space = Value::MakeNamespace({});
    for (const auto& [member, value] : arguments.named) {
      WINNOW_RETURN_IF_ERROR(space.SetMember(member, value));
    }
    return space;
  }
  const Value argument = Argument(arguments, 0, "");
  if (name == "raise_exception" && argument.text() != nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("the model's chat template refuses: ", PlainText(*argument.text())));
  }
  if (name == "strftime_now" && argument.text() != nullptr) {
    return Value::Text(
        absl::FormatTime(PlainText(*argument.text()), context.now, absl::UTCTimeZone()));
  }
  const bool is_range = name == "range" && arguments.values.size() == 1;
  if (is_range && argument.integer() != nullptr && *argument.integer() <= kMaxRange) {
    Value::List numbers;
    for (int64_t i = 0; i < *argument.integer(); ++i) numbers.push_back(Value::Integer(i));
    return Value::MakeList(std::move(numbers));
  }
  return CannotApply(name, arguments);
}

bool IsTemplateMethod(const std::string& name) {
  return kTextMethods.count(name) > 0 || kObjectMethods.count(name) > 0;
}

absl::StatusOr<TemplateValue> CallTemplateMethod(const std::string& name,
                                                 const TemplateArguments& arguments,
                                                 TemplateContext& context) {
  return kTextMethods.count(name) > 0 ? TextMethod(name, arguments, context)
                                      : ObjectMethod(name, arguments, context);
}

bool IsTemplateFilter(const std::string& name) { return kFilters.count(name) > 0; }

absl::StatusOr<TemplateValue> RunTemplateFilter(const std::string& name,
                                                const TemplateArguments& arguments,
                                                TemplateContext& context) {
  const Value& of = arguments.values[0];
  if (name == "trim") return TextMethod("strip", arguments, context);
  if (kTextMethods.count(name) > 0) return TextMethod(name, arguments, context);
  if (kSelectFilters.count(name) > 0) return SelectFilter(name, arguments, context);
  if (name == "items") return ObjectMethod(name, arguments, context);
  if (name == "join") return JoinFilter(arguments, context);
  if (name == "default") return DefaultFilter(arguments);
  if (name == "safe") return of;
  if (name == "tojson") {
    if (arguments.values.size() > 1 || !arguments.named.empty())
      return CannotApply(name, arguments);
    WINNOW_ASSIGN_OR_RETURN(MarkedText json, TemplateJson(of, context.budget));
    return Value::Text(std::move(json));
  }
  if (name == "length" || name == "count") {
    WINNOW_ASSIGN_OR_RETURN(const int64_t length, of.Length());
    return Value::Integer(length);
  }
  if (name == "string") {
    WINNOW_ASSIGN_OR_RETURN(MarkedText printed, of.Print());
    return Value::Text(std::move(printed));
  }
  return ListFilter(name, arguments);
}

bool IsTemplateTest(const std::string& name) { return kTests.count(name) > 0; }

absl::StatusOr<bool> RunTemplateTest(const std::string& name, const TemplateArguments& arguments) {
  const Value& of = arguments.values[0];
  const bool has_elements = of.text() != nullptr || of.list() != nullptr || of.object() != nullptr;
  if (name == "defined") return !of.is_undefined();
  if (name == "undefined") return of.is_undefined();
  if (name == "none") return of.is_none();
  if (name == "string") return of.text() != nullptr;
  if (name == "mapping") return of.object() != nullptr;
  if (name == "iterable") return has_elements || of.is_undefined();
  if (name == "sequence") return has_elements || of.is_undefined();
  if (name == "number") return of.integer() != nullptr || of.boolean() != nullptr;
  if (name == "boolean") return of.boolean() != nullptr;
  if (name == "true") return of.boolean() != nullptr && *of.boolean();
  if (name == "false") return of.boolean() != nullptr && !*of.boolean();
  if ((name == "odd" || name == "even") && of.integer() != nullptr) {
    return (*of.integer() % 2 != 0) == (name == "odd");
  }
  if (arguments.values.size() == 2) {
    if (name == "equalto" || name == "eq") return of.Equals(arguments.values[1]);
    if (name == "in") return arguments.values[1].Contains(of);
    if (name == "ne") {
      WINNOW_ASSIGN_OR_RETURN(const bool is_equal, of.Equals(arguments.values[1]));
      return !is_equal;
    }
  }
  return CannotApply(name, arguments);
}

}  // namespace winnow
