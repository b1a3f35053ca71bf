#include "tokenizer/template_value.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "absl/strings/str_cat.h"

namespace winnow {
namespace {

constexpr int kMaxDepth = 64;

template <typename T, typename Value>
const T* SharedOrNull(const Value& value) {
  const auto* shared = std::get_if<std::shared_ptr<const T>>(&value);
  return shared == nullptr ? nullptr : shared->get();
}

absl::Status CheckDepth(int depth) {
  if (depth <= kMaxDepth) return absl::OkStatus();
  return absl::InvalidArgumentError("values nested deeper than 64 are not supported");
}

// As Python's repr: the fewest digits that give the value back, an exponent below 1e-4 and from
// 1e16.
std::string PrintFloat(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  const double size = std::abs(value);
  const bool is_plain = size == 0 || (size >= 1e-4 && size < 1e16);
  char buffer[64];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value,
                                 is_plain ? std::chars_format::fixed : std::chars_format::scientific);
  std::string out(buffer, end.ptr);
  if (is_plain && out.find('.') == std::string::npos) out += ".0";
  return out;
}

}  // namespace

TemplateValue TemplateValue::Text(MarkedText text) {
  return TemplateValue(Value(std::make_shared<const MarkedText>(std::move(text))));
}
TemplateValue TemplateValue::Text(std::string text, int32_t origin) {
  return Text(MarkedText{{std::move(text), origin}});
}
absl::StatusOr<TemplateValue> TemplateValue::List(std::vector<TemplateValue> items) {
  return Make(TemplateList{std::move(items)});
}
absl::StatusOr<TemplateValue> TemplateValue::Make(TemplateList list) {
  for (const TemplateValue& item : list.items) list.depth = std::max(list.depth, item.Depth() + 1);
  if (absl::Status status = CheckDepth(list.depth); !status.ok()) return status;
  return TemplateValue(Value(std::make_shared<const TemplateList>(std::move(list))));
}
absl::StatusOr<TemplateValue> TemplateValue::Make(TemplateObject object) {
  for (const auto& [key, value] : object.entries) {
    object.depth = std::max({object.depth, key.Depth() + 1, value.Depth() + 1});
  }
  if (absl::Status status = CheckDepth(object.depth); !status.ok()) return status;
  return TemplateValue(Value(std::make_shared<const TemplateObject>(std::move(object))));
}
absl::StatusOr<TemplateValue> TemplateValue::Make(TemplateLoop loop) {
  loop.depth = loop.list.Depth() + 1;
  if (absl::Status status = CheckDepth(loop.depth); !status.ok()) return status;
  return TemplateValue(Value(std::make_shared<const TemplateLoop>(std::move(loop))));
}
absl::StatusOr<TemplateValue> TemplateValue::Make(TemplateFunction function) {
  function.depth = function.self.Depth() + 1;
  if (absl::Status status = CheckDepth(function.depth); !status.ok()) return status;
  return TemplateValue(Value(std::make_shared<const TemplateFunction>(std::move(function))));
}

const MarkedText* TemplateValue::text() const { return SharedOrNull<MarkedText>(value_); }
const TemplateList* TemplateValue::list() const { return SharedOrNull<TemplateList>(value_); }
const TemplateObject* TemplateValue::object() const { return SharedOrNull<TemplateObject>(value_); }
const TemplateLoop* TemplateValue::loop() const { return SharedOrNull<TemplateLoop>(value_); }
const TemplateFunction* TemplateValue::function() const {
  return SharedOrNull<TemplateFunction>(value_);
}
TemplateNamespace* TemplateValue::members() const {
  TemplateNamespace* const* members = std::get_if<TemplateNamespace*>(&value_);
  return members == nullptr ? nullptr : *members;
}

int TemplateValue::Depth() const {
  if (list() != nullptr) return list()->depth;
  if (object() != nullptr) return object()->depth;
  if (loop() != nullptr) return loop()->depth;
  return function() != nullptr ? function()->depth : 0;
}

const char* TemplateValue::KindName() const {
  constexpr const char* kNames[] = {"undefined", "none",   "boolean",   "integer", "float",   "text",
                                    "list",      "object", "namespace", "loop",    "function"};
  return kNames[value_.index()];
}

std::optional<int64_t> TemplateValue::WholeNumber() const {
  if (const bool* boolean = std::get_if<bool>(&value_)) return *boolean ? 1 : 0;
  if (const int64_t* integer = std::get_if<int64_t>(&value_)) return *integer;
  return std::nullopt;
}
std::optional<double> TemplateValue::Number() const {
  if (const double* number = std::get_if<double>(&value_)) return *number;
  const std::optional<int64_t> whole = WholeNumber();
  return whole ? std::optional<double>(static_cast<double>(*whole)) : std::nullopt;
}

bool TemplateValue::IsTrue() const {
  if (const std::optional<double> number = Number()) return *number != 0;
  if (text() != nullptr) return TextSize(*text()) > 0;
  if (list() != nullptr) {
    return !list()->items.empty() || list()->shape == TemplateList::Shape::kStream;
  }
  if (object() != nullptr) return !object()->entries.empty();
  return !is_undefined() && !is_none();
}

absl::StatusOr<MarkedText> TemplateValue::Print() const {
  switch (kind()) {
    case Kind::kUndefined:
      return MarkedText{};
    case Kind::kNone:
      return MarkedText{{"None"}};
    case Kind::kBoolean:
      return MarkedText{{*boolean() ? "True" : "False"}};
    case Kind::kInteger:
      return MarkedText{{std::to_string(std::get<int64_t>(value_))}};
    case Kind::kFloat:
      return MarkedText{{PrintFloat(std::get<double>(value_))}};
    case Kind::kText:
      return *text();
    default:
      return absl::InvalidArgumentError(absl::StrCat("printing ", KindName(), " is not supported"));
  }
}

}  // namespace winnow
