#include "tokenizer/template_value.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace winnow {
namespace {

template <typename T, typename Value>
const T* SharedOrNull(const Value& value) {
  const auto* shared = std::get_if<std::shared_ptr<const T>>(&value);
  return shared == nullptr ? nullptr : shared->get();
}

}  // namespace

TemplateValue TemplateValue::Text(MarkedText text) {
  return TemplateValue(Value(std::make_shared<const MarkedText>(std::move(text))));
}
TemplateValue TemplateValue::Text(std::string text, int32_t origin) {
  return Text(MarkedText{{std::move(text), origin}});
}
TemplateValue TemplateValue::MakeList(List list) {
  return TemplateValue(Value(std::make_shared<const List>(std::move(list))));
}
TemplateValue TemplateValue::MakeObject(Object object) {
  return TemplateValue(Value(std::make_shared<const Object>(std::move(object))));
}

const MarkedText* TemplateValue::text() const { return SharedOrNull<MarkedText>(value_); }
const TemplateValue::List* TemplateValue::list() const { return SharedOrNull<List>(value_); }
const TemplateValue::Object* TemplateValue::object() const { return SharedOrNull<Object>(value_); }

// True and false equal 1 and 0.
std::optional<int64_t> TemplateValue::Number() const {
  if (const bool* boolean = std::get_if<bool>(&value_)) return *boolean ? 1 : 0;
  if (const int64_t* integer = std::get_if<int64_t>(&value_)) return *integer;
  return std::nullopt;
}

const char* TemplateValue::KindName() const {
  constexpr const char* kNames[] = {"undefined", "boolean", "integer", "text", "list", "object"};
  return kNames[value_.index()];
}

bool TemplateValue::IsTrue() const {
  if (const bool* boolean = std::get_if<bool>(&value_)) return *boolean;
  if (const int64_t* integer = std::get_if<int64_t>(&value_)) return *integer != 0;
  if (text() != nullptr) return TextSize(*text()) > 0;
  if (list() != nullptr) return !list()->empty();
  if (object() != nullptr) return !object()->empty();
  return false;
}

absl::StatusOr<TemplateValue> TemplateValue::At(const TemplateValue& key) const {
  const int64_t* index = std::get_if<int64_t>(&key.value_);
  if (object() != nullptr && key.text() != nullptr) {
    const auto it = object()->find(PlainText(*key.text()));
    return it == object()->end() ? TemplateValue() : it->second;
  }
  if (list() != nullptr && index != nullptr && *index >= 0) {
    const auto at = static_cast<size_t>(*index);
    return at < list()->size() ? (*list())[at] : TemplateValue();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("a value of kind ", KindName(), " has no member of kind ", key.KindName()));
}

absl::StatusOr<bool> TemplateValue::Equals(const TemplateValue& other) const {
  if (list() != nullptr || object() != nullptr || other.list() != nullptr ||
      other.object() != nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("comparing ", KindName(), " and ", other.KindName(), " is not supported"));
  }
  const std::optional<int64_t> number = Number(), other_number = other.Number();
  if (number && other_number) return *number == *other_number;
  if (text() == nullptr || other.text() == nullptr) return value_ == other.value_;
  return TextSize(*text()) == TextSize(*other.text()) &&
         PlainText(*text()) == PlainText(*other.text());
}

absl::StatusOr<TemplateValue> TemplateValue::Plus(const TemplateValue& other) const {
  const int64_t* a = std::get_if<int64_t>(&value_);
  const int64_t* b = std::get_if<int64_t>(&other.value_);
  int64_t sum = 0;
  if (a != nullptr && b != nullptr && !__builtin_add_overflow(*a, *b, &sum)) return Integer(sum);
  if (text() == nullptr || other.text() == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("adding ", KindName(), " and ", other.KindName(), " is not supported"));
  }
  MarkedText joined = *text();
  Append(*other.text(), joined);
  return Text(std::move(joined));
}

absl::StatusOr<MarkedText> TemplateValue::Print() const {
  if (is_undefined()) return MarkedText{};
  if (text() != nullptr) return *text();
  if (const bool* boolean = std::get_if<bool>(&value_)) {
    return MarkedText{{*boolean ? "True" : "False"}};
  }
  if (const int64_t* integer = std::get_if<int64_t>(&value_)) {
    return MarkedText{{std::to_string(*integer)}};
  }
  return absl::InvalidArgumentError(absl::StrCat("printing ", KindName(), " is not supported"));
}

}  // namespace winnow
