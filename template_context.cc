#include "tokenizer/template_context.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace winnow {

TemplateValue TemplateScope::Find(const std::string& name) const {
  for (size_t i = frames_.size(); i-- > 0;) {
    if (i < base_ && i > 0) i = 0;
    const auto it = frames_[i].find(name);
    if (it != frames_[i].end()) return it->second;
  }
  return TemplateValue();
}

TemplateScope::Inner::Inner(TemplateScope& scope, Sees sees)
    : scope_(scope), outer_base_(scope.base_) {
  if (sees == Sees::kOutermost) scope_.base_ = scope_.frames_.size();
  scope_.frames_.emplace_back();
}
TemplateScope::Inner::~Inner() {
  scope_.frames_.pop_back();
  scope_.base_ = outer_base_;
}

absl::StatusOr<std::vector<TemplateValue>> BindArguments(
    const TemplateArguments& arguments, const std::vector<std::string>& parameters) {
  const size_t num_positional = arguments.num_positional();
  if (num_positional > parameters.size()) {
    return absl::InvalidArgumentError(absl::StrCat("expected at most ", parameters.size(),
                                                   " arguments, got ", num_positional));
  }
  std::vector<TemplateValue> out(arguments.values.begin(),
                                 arguments.values.begin() + num_positional);
  out.resize(parameters.size());
  for (size_t i = 0; i < arguments.names.size(); ++i) {
    const std::string& name = arguments.names[i];
    const size_t at =
        std::find(parameters.begin(), parameters.end(), name) - parameters.begin();
    if (at == parameters.size() || at < num_positional) {
      return absl::InvalidArgumentError(
          absl::StrCat("an argument '", name, "' is not supported here"));
    }
    out[at] = arguments.values[num_positional + i];
  }
  return out;
}

}  // namespace winnow
