#include "common/fault_rules.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace winnow {
namespace {

constexpr std::pair<Fault, const char*> kFaults[] = {
    {Fault::kNone, "none"}, {Fault::kDelay, "delay"},     {Fault::kHold, "hold"},
    {Fault::kDrop, "drop"}, {Fault::kCorrupt, "corrupt"}, {Fault::kRepeat, "repeat"},
    {Fault::kFail, "fail"}, {Fault::kKill, "kill"}};

bool ParseFault(absl::string_view text, Fault* out) {
  for (const auto& [fault, name] : kFaults) {
    if (fault != Fault::kNone && text == name) {
      *out = fault;
      return true;
    }
  }
  return false;
}

bool ParseCode(absl::string_view text, absl::StatusCode* out) {
  for (int code = 1; code <= 16; ++code) {
    if (text == absl::StatusCodeToString(static_cast<absl::StatusCode>(code))) {
      *out = static_cast<absl::StatusCode>(code);
      return true;
    }
  }
  return false;
}

}  // namespace

const char* FaultName(Fault fault) {
  for (const auto& [known, name] : kFaults) {
    if (known == fault) return name;
  }
  return "unknown";
}

absl::StatusOr<FaultRules::Rule> FaultRules::ParseRule(
    const std::vector<absl::string_view>& words) {
  Rule rule;
  if (words.size() < 2 || !ParseFault(words[1], &rule.outcome.fault)) {
    return absl::InvalidArgumentError(
        "expected a point and one of delay, hold, drop, corrupt, repeat, fail, kill");
  }
  rule.point = std::string(words[0]);
  int64_t ms = 0;
  const std::map<absl::string_view, int64_t*> numbers = {
      {"after", &rule.after}, {"times", &rule.times}, {"on", &rule.on}, {"ms", &ms}};
  for (size_t i = 2; i < words.size(); ++i) {
    const std::pair<absl::string_view, absl::string_view> part =
        absl::StrSplit(words[i], absl::MaxSplits('=', 1));
    const auto number = numbers.find(part.first);
    bool ok = false;
    if (number != numbers.end()) {
      ok = absl::SimpleAtoi(part.second, number->second);
    } else if (part.first == "chance") {
      ok = absl::SimpleAtod(part.second, &rule.chance);
    } else if (part.first == "code") {
      ok = ParseCode(part.second, &rule.outcome.code);
    }
    if (!ok) return absl::InvalidArgumentError(absl::StrCat("cannot read '", words[i], "'"));
  }
  rule.outcome.delay = absl::Milliseconds(ms);
  return rule;
}

absl::StatusOr<FaultRules> FaultRules::Parse(absl::string_view text) {
  FaultRules rules;
  int number = 0;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    const std::vector<absl::string_view> words =
        absl::StrSplit(line, absl::ByAnyChar(" \t\r"), absl::SkipEmpty());
    if (words.empty() || words[0][0] == '#') continue;
    if (uint64_t seed = 0;
        words.size() == 2 && words[0] == "seed" && absl::SimpleAtoi(words[1], &seed)) {
      rules.random_.seed(seed);
      continue;
    }
    absl::StatusOr<Rule> rule = ParseRule(words);
    if (!rule.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("fault rules, line ", number, ": ", std::string(rule.status().message())));
    }
    rules.rules_.push_back(*std::move(rule));
  }
  return rules;
}

FaultRules::Outcome FaultRules::Hit(absl::string_view point, int instance) {
  for (Rule& rule : rules_) {
    if (rule.point != point || (rule.on >= 0 && rule.on != instance)) continue;
    if (rule.hits++ < rule.after || (rule.times >= 0 && rule.fired >= rule.times)) continue;
    if (rule.chance < 1.0 && std::uniform_real_distribution<>()(random_) >= rule.chance) continue;
    ++rule.fired;
    return rule.outcome;
  }
  return {};
}

bool FaultRules::Holds(absl::string_view point, int instance) const {
  return std::any_of(rules_.begin(), rules_.end(), [&](const Rule& rule) {
    return rule.outcome.fault == Fault::kHold && rule.point == point &&
           (rule.on < 0 || rule.on == instance);
  });
}

}  // namespace winnow
