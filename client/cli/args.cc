#include "client/cli/args.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace winnow {
namespace {

bool Contains(const std::vector<std::string>& list, const std::string& word) {
  return std::find(list.begin(), list.end(), word) != list.end();
}

absl::Status NotANumber(const std::string& name, const std::string& kind, const std::string& got) {
  return absl::InvalidArgumentError(absl::StrCat("--", name, ": expected ", kind, ", got '", got, "'"));
}

}  // namespace

absl::StatusOr<Args> Args::Parse(const std::vector<std::string>& words, const std::vector<std::string>& values,
                                 const std::vector<std::string>& flags) {
  Args args;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (word.rfind("--", 0) != 0) return absl::InvalidArgumentError(absl::StrCat("unexpected argument '", word, "'"));
    const size_t equals = word.find('=');
    const std::string name = word.substr(2, equals == std::string::npos ? std::string::npos : equals - 2);
    if (Contains(flags, name)) {
      if (equals != std::string::npos) return absl::InvalidArgumentError(absl::StrCat("--", name, " takes no value"));
      args.values_[name].push_back("true");
    } else if (!Contains(values, name)) {
      return absl::InvalidArgumentError(absl::StrCat("unknown option --", name));
    } else if (equals != std::string::npos) {
      args.values_[name].push_back(word.substr(equals + 1));
    } else if (i + 1 < words.size()) {
      args.values_[name].push_back(words[++i]);
    } else {
      return absl::InvalidArgumentError(absl::StrCat("--", name, " needs a value"));
    }
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
  if (!absl::SimpleAtod(Get(name), &value)) return NotANumber(name, "a number", Get(name));
  return value;
}

absl::StatusOr<int64_t> Args::GetInt(const std::string& name) const {
  int64_t value;
  if (!absl::SimpleAtoi(Get(name), &value)) return NotANumber(name, "an integer", Get(name));
  return value;
}

absl::StatusOr<std::vector<int32_t>> Args::GetInts(const std::string& name) const {
  std::vector<int32_t> out;
  const std::vector<std::string> parts = absl::StrSplit(Get(name), ',', absl::SkipEmpty());
  for (const std::string& part : parts) {
    int32_t value;
    if (!absl::SimpleAtoi(part, &value)) return NotANumber(name, "integers separated by commas", part);
    out.push_back(value);
  }
  return out;
}

}  // namespace winnow
