#include "plan/policy.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace winnow {

absl::Span<const Policy* const> Policies() {
  static constexpr const Policy* kTable[] = {&kFullPolicy, &kClaaPolicy, &kUniformPolicy};
  return kTable;
}

std::string PolicyNames() {
  return absl::StrJoin(Policies(), ", ", [](std::string* out, const Policy* policy) {
    absl::StrAppend(out, policy->name);
  });
}

absl::StatusOr<const Policy*> FindPolicy(const std::string& name) {
  for (const Policy* policy : Policies()) {
    if (name == policy->name) return policy;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("selection: unknown policy '", name, "'; supported: ", PolicyNames()));
}

}  // namespace winnow
