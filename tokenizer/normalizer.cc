#include "tokenizer/normalizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "common/utf8.h"
#include "tokenizer/json_field.h"

namespace winnow {
namespace {

using Json = nlohmann::json;

// Puts runs of more than kLongRun combining marks into canonical order, which changes no normal
// form. utf8proc's own ordering takes quadratic time on runs that are far from it.
std::string WithOrderedMarks(std::string_view text) {
  constexpr size_t kLongRun = 32;
  struct Mark {
    int combining_class;
    std::string_view bytes;
  };
  std::string out;
  out.reserve(text.size());
  std::vector<Mark> run;
  const auto end_run = [&] {
    if (run.size() > kLongRun) {
      std::stable_sort(run.begin(), run.end(), [](const Mark& a, const Mark& b) {
        return a.combining_class < b.combining_class;
      });
    }
    for (const Mark& mark : run) out += mark.bytes;
    run.clear();
  };
  for (size_t at = 0; at < text.size();) {
    const int length = Utf8Length(text, at);
    const auto code_point = static_cast<utf8proc_int32_t>(DecodeUtf8(text, at, length));
    const int combining_class = utf8proc_get_property(code_point)->combining_class;
    if (combining_class == 0) end_run();
    run.push_back({combining_class, text.substr(at, length)});
    if (combining_class == 0) end_run();
    at += length;
  }
  end_run();
  return out;
}

// Appends the normal form of `text`.
absl::Status AppendForm(std::string_view text, int options, std::string& out) {
  const std::string ordered = WithOrderedMarks(text);
  utf8proc_uint8_t* mapped = nullptr;
  const utf8proc_ssize_t size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(ordered.data()),
                   static_cast<utf8proc_ssize_t>(ordered.size()), &mapped,
                   static_cast<utf8proc_option_t>(options | UTF8PROC_STABLE));
  const std::unique_ptr<utf8proc_uint8_t, void (*)(void*)> owner(mapped, std::free);
  if (size < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("text: normalizing ", text.size(), " bytes: ", utf8proc_errmsg(size)));
  }
  out.append(reinterpret_cast<const char*>(mapped), static_cast<size_t>(size));
  return absl::OkStatus();
}

// No character below `bound` changes or is joined to the one before it, so only stretches around
// others need the work: for composed forms that is U+0300 (lead byte 0xCC), for decomposed and
// compatibility forms U+0080.
absl::StatusOr<std::string> ToForm(std::string_view text, int options, unsigned char lead_bound) {
  const auto is_simple = [&](size_t at) {
    return static_cast<unsigned char>(text[at]) < lead_bound;
  };
  // A byte that goes on with a character lies in 0x80 … 0xBF: it counts as its lead byte did.
  const auto is_continuation = [&](size_t at) {
    return (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80;
  };
  std::string out;
  out.reserve(text.size());
  size_t last = 0, at = 0;  // `last`: the simple character before `at`
  while (at < text.size()) {
    const size_t begin = at;
    while (at < text.size() && is_simple(at)) {
      last = at++;
      while (at < text.size() && is_continuation(at)) ++at;
    }
    if (at == text.size()) {
      out.append(text.substr(begin));
      break;
    }
    // The last simple character may be the base of marks that follow.
    const size_t from = at > begin ? last : at;
    out.append(text.substr(begin, from - begin));
    while (at < text.size() && (!is_simple(at) || is_continuation(at))) ++at;
    WINNOW_RETURN_IF_ERROR(AppendForm(text.substr(from, at - from), options, out));
  }
  return out;
}

}  // namespace

absl::StatusOr<Normalizer> Normalizer::Create(const Json& json) {
  Normalizer out;
  if (!json.is_null()) {
    WINNOW_RETURN_IF_ERROR(ForEachPart(
        json, "normalizers", "normalizer",
        [&](const Json& part, const std::string& where) { return out.Add(part, where); }));
  }
  return out;
}

absl::Status Normalizer::Add(const Json& json, const std::string& where) {
  const Json& type = Field(json, "type");
  Step step;
  if (type == "NFC") {
    step.kind = Kind::kNfc;
  } else if (type == "NFD") {
    step.kind = Kind::kNfd;
  } else if (type == "NFKC") {
    step.kind = Kind::kNfkc;
  } else if (type == "NFKD") {
    step.kind = Kind::kNfkd;
  } else if (type == "Prepend") {
    step.kind = Kind::kPrepend;
    WINNOW_ASSIGN_OR_RETURN(step.content, StringField(json, "prepend", "", where + ".prepend"));
  } else if (type == "Replace") {
    step.kind = Kind::kReplace;
    WINNOW_ASSIGN_OR_RETURN(step.content, StringField(json, "content", "", where + ".content"));
    WINNOW_ASSIGN_OR_RETURN(step.pattern,
                            SplitPattern::Create(Field(json, "pattern"), where + ".pattern"));
  } else {
    return Unexpected(where + ".type", "Sequence, NFC, NFD, NFKC, NFKD, Prepend or Replace", type);
  }
  steps_.push_back(std::move(step));
  return absl::OkStatus();
}

absl::StatusOr<std::string> Normalizer::Apply(std::string_view text) const {
  std::string out(text);
  for (const Step& step : steps_) {
    if (out.empty()) break;
    WINNOW_ASSIGN_OR_RETURN(out, ApplyStep(step, std::move(out)));
  }
  return out;
}

absl::StatusOr<std::string> Normalizer::ApplyStep(const Step& step, std::string text) {
  constexpr unsigned char kComposedBound = 0xCC, kAscii = 0x80;
  switch (step.kind) {
    case Kind::kNfc:
      return ToForm(text, UTF8PROC_COMPOSE, kComposedBound);
    case Kind::kNfd:
      return ToForm(text, UTF8PROC_DECOMPOSE, kAscii);
    case Kind::kNfkc:
      return ToForm(text, UTF8PROC_COMPOSE | UTF8PROC_COMPAT, kAscii);
    case Kind::kNfkd:
      return ToForm(text, UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT, kAscii);
    case Kind::kPrepend:
      return step.content + text;
    case Kind::kReplace: {
      std::string out;
      out.reserve(text.size());
      WINNOW_RETURN_IF_ERROR(step.pattern.Split(text, [&](std::string_view part, bool is_match) {
        out += is_match ? std::string_view(step.content) : part;
      }));
      return out;
    }
  }
  return text;
}

}  // namespace winnow
