#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tokenizer/template_expression.h"

namespace winnow {

// What expressions of chat templates may call, with Jinja's and Python's meanings. Text keeps its
// origins through all of it. Every one: INVALID_ARGUMENT where it cannot be applied.

struct TemplateArguments {
  std::vector<TemplateValue> values;  // the first is what a method, filter or test is applied to
  std::map<std::string, TemplateValue> named;
};

// namespace, raise_exception, strftime_now, range.
bool IsTemplateFunction(const std::string& name);
absl::StatusOr<TemplateValue> CallTemplateFunction(const std::string& name,
                                                   const TemplateArguments& arguments,
                                                   TemplateContext& context);

// Of text: strip, lstrip, rstrip, split, startswith, endswith, upper, lower, replace; of objects:
// items, keys, get.
bool IsTemplateMethod(const std::string& name);
absl::StatusOr<TemplateValue> CallTemplateMethod(const std::string& name,
                                                 const TemplateArguments& arguments,
                                                 TemplateContext& context);

// trim, length, count, list, first, last, join, upper, lower, replace, default, string, items,
// tojson, select, reject, selectattr, rejectattr, safe.
bool IsTemplateFilter(const std::string& name);
absl::StatusOr<TemplateValue> RunTemplateFilter(const std::string& name,
                                                const TemplateArguments& arguments,
                                                TemplateContext& context);

// defined, undefined, none, string, mapping, iterable, sequence, number, boolean, true, false, odd,
// even, equalto, eq, ne, in.
bool IsTemplateTest(const std::string& name);
absl::StatusOr<bool> RunTemplateTest(const std::string& name, const TemplateArguments& arguments);

}  // namespace winnow
