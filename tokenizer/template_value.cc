#include "tokenizer/template_value.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "common/utf8.h"

namespace winnow {
namespace {

template <typename T, typename Value>
const T* SharedOrNull(const Value& value) {
  const auto* shared = std::get_if<std::shared_ptr<const T>>(&value);
  return shared == nullptr ? nullptr : shared->get();
}

// Where each character of the text begins, and its end.
std::vector<size_t> CharacterStarts(const std::string& text) {
  std::vector<size_t> starts;
  for (size_t at = 0; at < text.size();) {
    starts.push_back(at);
    at += std::max(1, Utf8Length(text, at));
  }
  starts.push_back(text.size());
  return starts;
}

// Indexes that Python's slice takes of `size` elements.
std::vector<int64_t> SliceIndexes(int64_t size, std::optional<int64_t> begin,
                                  std::optional<int64_t> end, int64_t step) {
  const auto clamp = [&](int64_t index, int64_t low, int64_t high) {
    return std::clamp(index < 0 ? index + size : index, low, high);
  };
  std::vector<int64_t> indexes;
  if (step > 0) {
    const int64_t last = end ? clamp(*end, 0, size) : size;
    for (int64_t i = begin ? clamp(*begin, 0, size) : 0; i < last; i += step) indexes.push_back(i);
  } else {
    const int64_t last = end ? clamp(*end, -1, size - 1) : -1;
    for (int64_t i = begin ? clamp(*begin, -1, size - 1) : size - 1; i > last; i += step) {
      indexes.push_back(i);
    }
  }
  return indexes;
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
TemplateValue TemplateValue::MakeNamespace(Object object) {
  return TemplateValue(Value(std::make_shared<Namespace>(Namespace{std::move(object)})));
}

const MarkedText* TemplateValue::text() const { return SharedOrNull<MarkedText>(value_); }
const TemplateValue::List* TemplateValue::list() const { return SharedOrNull<List>(value_); }
const TemplateValue::Object* TemplateValue::object() const {
  const auto* space = std::get_if<std::shared_ptr<Namespace>>(&value_);
  return space != nullptr ? &(*space)->members : SharedOrNull<Object>(value_);
}

// True and false equal 1 and 0.
std::optional<int64_t> TemplateValue::Number() const {
  if (boolean() != nullptr) return *boolean() ? 1 : 0;
  if (integer() != nullptr) return *integer();
  return std::nullopt;
}

const char* TemplateValue::KindName() const {
  constexpr const char* kNames[] = {"undefined", "none", "boolean", "integer",
                                    "text",      "list", "object",  "namespace"};
  return kNames[value_.index()];
}

bool TemplateValue::IsTrue() const {
  if (const auto number = Number()) return *number != 0;
  if (text() != nullptr) return TextSize(*text()) > 0;
  if (list() != nullptr) return !list()->empty();
  if (object() != nullptr) return !object()->empty();
  return false;
}

absl::StatusOr<int64_t> TemplateValue::Length() const {
  if (text() != nullptr) {
    return static_cast<int64_t>(CharacterStarts(PlainText(*text())).size()) - 1;
  }
  if (list() != nullptr) return static_cast<int64_t>(list()->size());
  if (object() != nullptr) return static_cast<int64_t>(object()->size());
  return absl::InvalidArgumentError(absl::StrCat("a value of kind ", KindName(), " has no length"));
}

absl::StatusOr<TemplateValue> TemplateValue::At(const TemplateValue& key) const {
  if (object() != nullptr && key.text() != nullptr) {
    const auto it = object()->find(PlainText(*key.text()));
    return it == object()->end() ? TemplateValue() : it->second;
  }
  const bool has_elements = list() != nullptr || text() != nullptr;
  if (has_elements && key.integer() != nullptr) {
    WINNOW_ASSIGN_OR_RETURN(const int64_t size, Length());
    const int64_t index = *key.integer() < 0 ? *key.integer() + size : *key.integer();
    if (index < 0 || index >= size) return TemplateValue();
    if (list() != nullptr) return (*list())[index];
    return Slice(Integer(index), Integer(index + 1), TemplateValue());
  }
  // An attribute that text and lists do not have, such as message.content.type.
  if (has_elements && key.text() != nullptr) return TemplateValue();
  return absl::InvalidArgumentError(
      absl::StrCat("a value of kind ", KindName(), " has no member of kind ", key.KindName()));
}

absl::StatusOr<TemplateValue> TemplateValue::Slice(const TemplateValue& begin,
                                                   const TemplateValue& end,
                                                   const TemplateValue& step) const {
  for (const TemplateValue* bound : {&begin, &end, &step}) {
    const bool is_open = bound->is_undefined() || bound->is_none();
    if (!is_open && bound->integer() == nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat("a slice with a bound of kind ", bound->KindName()));
    }
  }
  const int64_t stride = step.integer() == nullptr ? 1 : *step.integer();
  if (stride == 0 || (list() == nullptr && text() == nullptr)) {
    return absl::InvalidArgumentError(
        absl::StrCat("a value of kind ", KindName(), " has no slice with step ", stride));
  }
  WINNOW_ASSIGN_OR_RETURN(const int64_t size, Length());
  const std::vector<int64_t> indexes = SliceIndexes(size, begin.Number(), end.Number(), stride);
  if (list() != nullptr) {
    List out;
    for (const int64_t i : indexes) out.push_back((*list())[i]);
    return MakeList(std::move(out));
  }
  const std::vector<size_t> starts = CharacterStarts(PlainText(*text()));
  if (stride == 1) {
    const size_t from = indexes.empty() ? 0 : starts[indexes.front()];
    const size_t to = indexes.empty() ? 0 : starts[indexes.back() + 1];
    return Text(SliceText(*text(), from, to));
  }
  MarkedText out = SliceText(*text(), 0, 0);
  for (const int64_t i : indexes) Append(SliceText(*text(), starts[i], starts[i + 1]), out);
  return Text(std::move(out));
}

absl::StatusOr<bool> TemplateValue::Equals(const TemplateValue& other) const {
  const bool has_members = list() != nullptr || object() != nullptr;
  const bool other_has_members = other.list() != nullptr || other.object() != nullptr;
  if (has_members && other_has_members) {
    return absl::InvalidArgumentError(
        absl::StrCat("comparing ", KindName(), " and ", other.KindName(), " is not supported"));
  }
  if (has_members || other_has_members) return false;
  const std::optional<int64_t> number = Number(), other_number = other.Number();
  if (number && other_number) return *number == *other_number;
  if (text() == nullptr || other.text() == nullptr) return value_ == other.value_;
  return TextSize(*text()) == TextSize(*other.text()) &&
         PlainText(*text()) == PlainText(*other.text());
}

absl::StatusOr<int> TemplateValue::Compare(const TemplateValue& other) const {
  const std::optional<int64_t> number = Number(), other_number = other.Number();
  if (number && other_number) return *number < *other_number ? -1 : *number > *other_number;
  if (text() != nullptr && other.text() != nullptr) {
    return PlainText(*text()).compare(PlainText(*other.text()));
  }
  return absl::InvalidArgumentError(
      absl::StrCat("ordering ", KindName(), " and ", other.KindName(), " is not supported"));
}

absl::StatusOr<bool> TemplateValue::Contains(const TemplateValue& needle) const {
  if (text() != nullptr && needle.text() != nullptr) {
    return PlainText(*text()).find(PlainText(*needle.text())) != std::string::npos;
  }
  if (object() != nullptr && needle.text() != nullptr) {
    return object()->count(PlainText(*needle.text())) > 0;
  }
  if (list() != nullptr) {
    for (const TemplateValue& element : *list()) {
      WINNOW_ASSIGN_OR_RETURN(const bool is_equal, element.Equals(needle));
      if (is_equal) return true;
    }
    return false;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("looking for ", needle.KindName(), " in ", KindName(), " is not supported"));
}

absl::StatusOr<TemplateValue> TemplateValue::Plus(const TemplateValue& other) const {
  int64_t sum = 0;
  if (integer() != nullptr && other.integer() != nullptr &&
      !__builtin_add_overflow(*integer(), *other.integer(), &sum)) {
    return Integer(sum);
  }
  if (list() != nullptr && other.list() != nullptr) {
    List joined = *list();
    joined.insert(joined.end(), other.list()->begin(), other.list()->end());
    return MakeList(std::move(joined));
  }
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
  if (is_none()) return MarkedText{{"None"}};
  if (text() != nullptr) return *text();
  if (boolean() != nullptr) return MarkedText{{*boolean() ? "True" : "False"}};
  if (integer() != nullptr) return MarkedText{{std::to_string(*integer())}};
  return absl::InvalidArgumentError(absl::StrCat("printing ", KindName(), " is not supported"));
}

absl::Status TemplateValue::SetMember(const std::string& name, TemplateValue value) const {
  const auto* space = std::get_if<std::shared_ptr<Namespace>>(&value_);
  if (space == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("setting a member of ", KindName(), " is not supported"));
  }
  // A namespace in a namespace could hold itself, and nothing would ever free it.
  if (std::holds_alternative<std::shared_ptr<Namespace>>(value.value_) || value.list() != nullptr ||
      (value.object() != nullptr)) {
    return absl::InvalidArgumentError(
        absl::StrCat("a namespace's member of kind ", value.KindName(), " is not supported"));
  }
  (*space)->members[name] = std::move(value);
  return absl::OkStatus();
}

}  // namespace winnow
