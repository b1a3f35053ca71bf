#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "tokenizer/marked_text.h"

namespace winnow {

struct TemplateFunction;
struct TemplateList;
struct TemplateLoop;
struct TemplateMacro;
struct TemplateNamespace;
struct TemplateObject;

// A value of a chat template. Cheap to copy: text and what holds others is shared and immutable,
// but for a namespace, which belongs to the rendering and must not outlive it.
class TemplateValue {
 public:
  enum class Kind {
    kUndefined,
    kNone,
    kBoolean,
    kInteger,
    kFloat,
    kText,
    kList,
    kObject,
    kNamespace,
    kLoop,
    kFunction
  };

  TemplateValue() = default;  // undefined
  static TemplateValue None() { return TemplateValue(Value(NoneValue{})); }
  static TemplateValue Bool(bool value) { return TemplateValue(Value(value)); }
  static TemplateValue Integer(int64_t value) { return TemplateValue(Value(value)); }
  static TemplateValue Float(double value) { return TemplateValue(Value(value)); }
  static TemplateValue Text(MarkedText text);
  static TemplateValue Text(std::string text, int32_t origin = TextPart::kTemplate);
  // INVALID_ARGUMENT: values nested too deep, which bounds the recursion of whatever walks them.
  static absl::StatusOr<TemplateValue> List(std::vector<TemplateValue> items);
  static absl::StatusOr<TemplateValue> Make(TemplateList list);
  static absl::StatusOr<TemplateValue> Make(TemplateObject object);
  static absl::StatusOr<TemplateValue> Make(TemplateLoop loop);
  static absl::StatusOr<TemplateValue> Make(TemplateFunction function);
  static TemplateValue Namespace(TemplateNamespace* members) {
    return TemplateValue(Value(members));
  }

  Kind kind() const { return static_cast<Kind>(value_.index()); }
  const char* KindName() const;
  bool is_undefined() const { return kind() == Kind::kUndefined; }
  bool is_none() const { return kind() == Kind::kNone; }

  // Null where the value is of another kind.
  const bool* boolean() const { return std::get_if<bool>(&value_); }
  const MarkedText* text() const;
  const TemplateList* list() const;
  const TemplateObject* object() const;
  const TemplateLoop* loop() const;
  const TemplateFunction* function() const;
  TemplateNamespace* members() const;

  // An integer, true as 1 or false as 0.
  std::optional<int64_t> WholeNumber() const;
  // That or a float.
  std::optional<double> Number() const;
  // As in Python: empty, zero, none and undefined are false.
  bool IsTrue() const;
  // What {{ }} prints. INVALID_ARGUMENT: of this kind nothing is printed.
  absl::StatusOr<MarkedText> Print() const;

 private:
  struct NoneValue {};
  using Value = std::variant<std::monostate, NoneValue, bool, int64_t, double,
                             std::shared_ptr<const MarkedText>, std::shared_ptr<const TemplateList>,
                             std::shared_ptr<const TemplateObject>, TemplateNamespace*,
                             std::shared_ptr<const TemplateLoop>,
                             std::shared_ptr<const TemplateFunction>>;
  explicit TemplateValue(Value value) : value_(std::move(value)) {}
  int Depth() const;

  Value value_;
};

struct TemplateList {
  enum class Shape {
    kList,
    kTuple,
    kRange,
    kView,   // of an object's keys, values or items: has a length, but no members by index
    kStream  // what a filter yields: can only be walked
  };
  std::vector<TemplateValue> items;
  Shape shape = Shape::kList;
  int depth = 1;  // set by Make; here and below: 1 more than the deepest value inside
};

struct TemplateObject {
  std::vector<std::pair<TemplateValue, TemplateValue>> entries;  // in order; keys differ
  int depth = 1;
};

// The name `loop` in one turn of a for.
struct TemplateLoop {
  TemplateValue list;
  size_t index = 0;
  int nesting = 0;  // of for in for
  int depth = 1;
};

// What can be called: one of Jinja's functions, a method of `self`, or a macro.
struct TemplateFunction {
  std::string name;
  TemplateValue self;                    // undefined: not a method
  const TemplateMacro* macro = nullptr;  // the template's, which outlives the rendering
  int depth = 1;
};

struct TemplateNamespace {
  std::map<std::string, TemplateValue> members;
};

}  // namespace winnow
