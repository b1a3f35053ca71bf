#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace winnow {

// A value of a chat template. Strings remember whether message content is in them.
struct TemplateValue {
  enum class Kind { kUndefined, kBool, kInteger, kString, kList, kObject };
  Kind kind = Kind::kUndefined;
  bool boolean = false;
  int64_t integer = 0;
  std::string string;
  bool is_content = false;
  std::vector<TemplateValue> list;
  std::map<std::string, TemplateValue> object;

  static TemplateValue Bool(bool value) { return {.kind = Kind::kBool, .boolean = value}; }
  static TemplateValue Integer(int64_t value) { return {.kind = Kind::kInteger, .integer = value}; }
  static TemplateValue String(std::string value, bool is_content = false) {
    return {.kind = Kind::kString, .string = std::move(value), .is_content = is_content};
  }
  bool IsTrue() const;
  friend bool operator==(const TemplateValue& a, const TemplateValue& b);
};

using TemplateScope = std::map<std::string, TemplateValue>;

// An expression, compiled once.
class TemplateExpression {
 public:
  // INVALID_ARGUMENT quotes what is not supported.
  static absl::StatusOr<TemplateExpression> Parse(const std::string& source);
  TemplateValue Evaluate(const TemplateScope& scope) const;

  struct Node;

 private:
  std::shared_ptr<const Node> root_;
};

}  // namespace winnow
