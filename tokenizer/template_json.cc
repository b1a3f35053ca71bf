#include "tokenizer/template_json.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/status_macros.h"

namespace winnow {
namespace {

std::string Escape(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          out += absl::StrFormat("\\u%04x", c);
        } else {
          out += c;
        }
    }
  }
  return out;
}

// Lists and objects hold what was there before them, so that the recursion ends.
absl::Status AppendJson(const TemplateValue& value, RenderBudget& budget, MarkedText& out) {
  WINNOW_RETURN_IF_ERROR(budget.SpendOn(value));
  const auto add = [&](const std::string& text) { Append(TextPart{text}, out); };
  if (value.text() != nullptr) {
    add("\"");
    for (const TextPart& part : *value.text()) Append({Escape(part.text), part.origin}, out);
    add("\"");
  } else if (value.list() != nullptr) {
    add("[");
    for (size_t i = 0; i < value.list()->size(); ++i) {
      if (i > 0) add(", ");
      WINNOW_RETURN_IF_ERROR(AppendJson((*value.list())[i], budget, out));
    }
    add("]");
  } else if (value.object() != nullptr) {
    add("{");
    bool is_first = true;
    for (const auto& [name, member] : *value.object()) {
      add(absl::StrCat(is_first ? "" : ", ", "\"", Escape(name), "\": "));
      is_first = false;
      WINNOW_RETURN_IF_ERROR(AppendJson(member, budget, out));
    }
    add("}");
  } else if (value.boolean() != nullptr) {
    add(*value.boolean() ? "true" : "false");
  } else if (value.integer() != nullptr) {
    add(absl::StrCat(*value.integer()));
  } else if (value.is_none()) {
    add("null");
  } else {
    return absl::InvalidArgumentError("tojson of undefined is not supported");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<MarkedText> TemplateJson(const TemplateValue& value, RenderBudget& budget) {
  MarkedText out;
  WINNOW_RETURN_IF_ERROR(AppendJson(value, budget, out));
  return out;
}

}  // namespace winnow
