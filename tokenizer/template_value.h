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

// A value of a chat template: undefined, a boolean, an integer, text, a list or an object.
// Immutable and cheap to copy: text and what holds others is shared.
class TemplateValue {
 public:
  using List = std::vector<TemplateValue>;
  using Object = std::map<std::string, TemplateValue>;

  TemplateValue() = default;  // undefined
  static TemplateValue Bool(bool value) { return TemplateValue(value); }
  static TemplateValue Integer(int64_t value) { return TemplateValue(value); }
  static TemplateValue Text(MarkedText text);
  static TemplateValue Text(std::string text, int32_t origin = TextPart::kTemplate);
  static TemplateValue MakeList(List list);
  static TemplateValue MakeObject(Object object);

  // Null where the value is of another kind.
  const MarkedText* text() const;
  const List* list() const;
  bool is_undefined() const { return std::holds_alternative<std::monostate>(value_); }

  // As in Python: empty, zero and undefined are false.
  bool IsTrue() const;
  // A member of an object or a list; undefined where there is none. INVALID_ARGUMENT: no such
  // operation.
  absl::StatusOr<TemplateValue> At(const TemplateValue& key) const;
  absl::StatusOr<bool> Equals(const TemplateValue& other) const;
  absl::StatusOr<TemplateValue> Plus(const TemplateValue& other) const;
  // What {{ }} prints. INVALID_ARGUMENT: a list or an object.
  absl::StatusOr<MarkedText> Print() const;

 private:
  using Value = std::variant<std::monostate, bool, int64_t, std::shared_ptr<const MarkedText>,
                             std::shared_ptr<const List>, std::shared_ptr<const Object>>;
  explicit TemplateValue(Value value) : value_(std::move(value)) {}
  const Object* object() const;
  std::optional<int64_t> Number() const;
  const char* KindName() const;

  Value value_;
};

}  // namespace winnow
