#include "client/cli/args.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/status_macros.h"
#include "common/utf8.h"

namespace winnow {
namespace {

bool Contains(const std::vector<std::string>& list, const std::string& word) {
  return std::find(list.begin(), list.end(), word) != list.end();
}

absl::Status Unexpected(const std::string& name, const std::string& kind, const std::string& got) {
  return absl::InvalidArgumentError(
      absl::StrCat("--", name, ": expected ", kind, ", got '", got, "'"));
}

}  // namespace

absl::StatusOr<Args> Args::Parse(const std::vector<std::string>& words,
                                 const std::vector<std::string>& values,
                                 const std::vector<std::string>& flags) {
  Args args;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i] == "-h" ? "--help" : words[i];
    if (word.rfind("--", 0) != 0) {
      return absl::InvalidArgumentError(absl::StrCat("unexpected argument '", word, "'"));
    }
    const size_t equals = word.find('=');
    const std::string name =
        word.substr(2, equals == std::string::npos ? std::string::npos : equals - 2);
    if (Contains(flags, name)) {
      if (equals != std::string::npos) {
        return absl::InvalidArgumentError(absl::StrCat("--", name, " takes no value"));
      }
      args.values_[name].push_back("true");
      continue;
    }
    if (!Contains(values, name)) {
      return absl::InvalidArgumentError(absl::StrCat("unknown option --", name));
    }
    if (equals == std::string::npos && i + 1 == words.size()) {
      return absl::InvalidArgumentError(absl::StrCat("--", name, " needs a value"));
    }
    const std::string value = equals != std::string::npos ? word.substr(equals + 1) : words[++i];
    if (const size_t bad = FirstInvalidUtf8(value); bad < value.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("--", name, ": not valid UTF-8 at byte ", bad));
    }
    args.values_[name].push_back(value);
  }
  return args;
}

std::string Args::Get(const std::string& name, const std::string& fallback) const {
  auto it = values_.find(name);
  return it == values_.end() ? fallback : it->second.back();
}

std::vector<std::string> Args::GetAll(const std::string& name) const {
  auto it = values_.find(name);
  return it == values_.end() ? std::vector<std::string>() : it->second;
}

absl::StatusOr<double> Args::GetDouble(const std::string& name) const {
  double value;
  if (!absl::SimpleAtod(Get(name), &value)) return Unexpected(name, "a number", Get(name));
  return value;
}

template <typename Integer>
absl::StatusOr<Integer> Args::GetInt(const std::string& name) const {
  Integer value;
  if (absl::SimpleAtoi(Get(name), &value)) return value;
  using Limits = std::numeric_limits<Integer>;
  return Unexpected(name, absl::StrCat("an integer in [", Limits::min(), ", ", Limits::max(), "]"),
                    Get(name));
}
template absl::StatusOr<int32_t> Args::GetInt(const std::string& name) const;
template absl::StatusOr<int64_t> Args::GetInt(const std::string& name) const;
template absl::StatusOr<uint64_t> Args::GetInt(const std::string& name) const;

absl::StatusOr<std::vector<int32_t>> Args::GetInts(const std::string& name) const {
  std::vector<int32_t> out;
  const std::vector<std::string> parts = absl::StrSplit(Get(name), ',');
  for (const std::string& part : parts) {
    int32_t value;
    if (!absl::SimpleAtoi(part, &value)) {
      return Unexpected(name, "integers separated by commas", part);
    }
    out.push_back(value);
  }
  return out;
}

absl::StatusOr<absl::Duration> Args::GetSeconds(const std::string& name,
                                                absl::Duration fallback) const {
  if (!Has(name)) return fallback;
  WINNOW_ASSIGN_OR_RETURN(const double seconds, GetDouble(name));
  if (!std::isfinite(seconds) || seconds <= 0) {
    return Unexpected(name, "a positive number of seconds", Get(name));
  }
  return absl::Seconds(seconds);
}

}  // namespace winnow
