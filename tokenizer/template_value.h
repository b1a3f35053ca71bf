#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "tokenizer/marked_text.h"

namespace winnow {

// A value of a chat template: undefined, none, a boolean, an integer, text, a list, an object, or a
// namespace, which alone can be changed. Cheap to copy: text and what holds others is shared.
class TemplateValue {
 public:
  using List = std::vector<TemplateValue>;
  using Object = std::map<std::string, TemplateValue>;

  TemplateValue() = default;  // undefined
  static TemplateValue None() { return TemplateValue(nullptr); }
  static TemplateValue Bool(bool value) { return TemplateValue(value); }
  static TemplateValue Integer(int64_t value) { return TemplateValue(value); }
  static TemplateValue Text(MarkedText text);
  static TemplateValue Text(std::string text, int32_t origin = TextPart::kTemplate);
  static TemplateValue MakeList(List list);
  static TemplateValue MakeObject(Object object);
  static TemplateValue MakeNamespace(Object object);

  // Null where the value is of another kind.
  const MarkedText* text() const;
  const List* list() const;
  const Object* object() const;  // a namespace's too
  const bool* boolean() const { return std::get_if<bool>(&value_); }
  const int64_t* integer() const { return std::get_if<int64_t>(&value_); }
  bool is_undefined() const { return std::holds_alternative<std::monostate>(value_); }
  bool is_none() const { return std::holds_alternative<std::nullptr_t>(value_); }
  const char* KindName() const;

  // As in Python: empty, zero, none and undefined are false.
  bool IsTrue() const;
  // Characters, elements or members. INVALID_ARGUMENT: a value that has none.
  absl::StatusOr<int64_t> Length() const;
  // A member of an object or a list, from the end with a negative number, or a character; undefined
  // where there is none. INVALID_ARGUMENT: no such operation.
  absl::StatusOr<TemplateValue> At(const TemplateValue& key) const;
  // Python's [begin:end:step] of text or a list; undefined bounds are those of the whole.
  absl::StatusOr<TemplateValue> Slice(const TemplateValue& begin, const TemplateValue& end,
                                      const TemplateValue& step) const;
  absl::StatusOr<bool> Equals(const TemplateValue& other) const;
  // Below zero, zero or above. INVALID_ARGUMENT: not two numbers and not two texts.
  absl::StatusOr<int> Compare(const TemplateValue& other) const;
  // Whether text holds a text, a list an element, an object a member.
  absl::StatusOr<bool> Contains(const TemplateValue& needle) const;
  absl::StatusOr<TemplateValue> Plus(const TemplateValue& other) const;
  // What {{ }} prints. INVALID_ARGUMENT: a list or an object.
  absl::StatusOr<MarkedText> Print() const;
  // INVALID_ARGUMENT: no namespace.
  absl::Status SetMember(const std::string& name, TemplateValue value) const;

 private:
  struct Namespace {
    Object members;
  };
  using Value = std::variant<std::monostate, std::nullptr_t, bool, int64_t,
                             std::shared_ptr<const MarkedText>, std::shared_ptr<const List>,
                             std::shared_ptr<const Object>, std::shared_ptr<Namespace>>;
  explicit TemplateValue(Value value) : value_(std::move(value)) {}
  std::optional<int64_t> Number() const;

  Value value_;
};

}  // namespace winnow
