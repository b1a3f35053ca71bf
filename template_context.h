#pragma once

#include <deque>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "tokenizer/render_budget.h"
#include "tokenizer/template_value.h"

namespace winnow {

// The variables that a template sees: frames, the innermost first. A for's turn has a frame of its
// own, so that what it sets is gone after it, as in Jinja; so has a macro's call, which sees the
// outermost frame besides.
class TemplateScope {
 public:
  using Frame = std::map<std::string, TemplateValue>;

  explicit TemplateScope(Frame outermost) { frames_.push_back(std::move(outermost)); }

  // Undefined where no frame has the name.
  TemplateValue Find(const std::string& name) const;
  void Set(const std::string& name, TemplateValue value) {
    frames_.back()[name] = std::move(value);
  }

  // Adds a frame while it lives. REQUIRES: frames go in the reverse order.
  class Inner {
   public:
    enum class Sees { kAllFrames, kOutermost };
    explicit Inner(TemplateScope& scope, Sees sees = Sees::kAllFrames);
    ~Inner();
    Inner(const Inner&) = delete;
    Inner& operator=(const Inner&) = delete;

   private:
    TemplateScope& scope_;
    const size_t outer_base_;
  };

 private:
  std::vector<Frame> frames_;
  size_t base_ = 0;  // frames before it are hidden, but for the outermost
};

// A call's or a filter's arguments.
struct TemplateArguments {
  std::vector<TemplateValue> values;
  std::vector<std::string> names;  // of the last values; those before go by position

  size_t num_positional() const { return values.size() - names.size(); }
};

// One rendering.
struct TemplateContext {
  TemplateScope scope;
  absl::Time now;
  RenderBudget budget = {};
  // All that the template makes: they may hold each other, so nobody shares in owning them.
  std::deque<TemplateNamespace> namespaces = {};
  // Set once an error's text needs no more told: it quotes its expression, or is the template's.
  bool is_error_complete = false;
  std::function<absl::StatusOr<TemplateValue>(const TemplateMacro&, const TemplateArguments&)>
      call_macro = {};
};

// One value per parameter, undefined where the call gives none. INVALID_ARGUMENT: an argument too
// many, or of an unknown name.
absl::StatusOr<std::vector<TemplateValue>> BindArguments(const TemplateArguments& arguments,
                                                         const std::vector<std::string>& parameters);

}  // namespace winnow
