#include "common/program_help.h"

#include <algorithm>
#include <cstdint>
#include <map>

#include "absl/flags/reflection.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"

namespace winnow {
namespace {

constexpr size_t kWidth = 100;  // columns
constexpr char kIndent[] = "      ";

// absl does not name a flag's type.
std::string TypeName(const absl::CommandLineFlag& flag) {
  if (flag.IsOfType<bool>()) return "BOOL";
  if (flag.IsOfType<int>() || flag.IsOfType<int64_t>()) return "INTEGER";
  if (flag.IsOfType<double>()) return "NUMBER";
  if (flag.IsOfType<std::string>()) return "TEXT";
  return "VALUE";  // of a type of ours, whose help lists the values
}

std::string Wrap(const std::string& text) {
  std::string lines, line = kIndent;
  for (const absl::string_view word : absl::StrSplit(text, ' ', absl::SkipEmpty())) {
    if (line.size() + word.size() >= kWidth && line != kIndent) {
      absl::StrAppend(&lines, line, "\n");
      line = kIndent;
    }
    absl::StrAppend(&line, line == kIndent ? "" : " ", word);
  }
  return absl::StrCat(lines, line, "\n");
}

std::string Describe(const absl::CommandLineFlag& flag) {
  const std::string value = flag.DefaultValue();
  return absl::StrCat("  --", absl::StrReplaceAll(flag.Name(), {{"_", "-"}}), "=", TypeName(flag),
                      value.empty() ? "" : absl::StrCat(" (default ", value, ")"), "\n",
                      Wrap(flag.Help()));
}

bool Holds(const FlagSection& section, const absl::CommandLineFlag& flag) {
  return absl::StrContains(absl::StrCat("/", flag.Filename()), absl::StrCat("/", section.path));
}

}  // namespace

std::string ProgramHelp(const std::string& program, const std::string& usage,
                        const std::vector<FlagSection>& sections) {
  std::map<std::string, const absl::CommandLineFlag*> flags;  // by name
  for (const auto& [name, flag] : absl::GetAllFlags()) {
    if (absl::StrContains(flag->Filename(), "absl/") || flag->IsRetired()) continue;
    flags.emplace(std::string(name), flag);
  }
  std::vector<std::string> bodies(sections.size() + 1);
  for (const auto& [name, flag] : flags) {
    const auto section =
        std::find_if(sections.begin(), sections.end(),
                     [&flag = flag](const FlagSection& one) { return Holds(one, *flag); });
    bodies[section - sections.begin()] += Describe(*flag);
  }
  std::string help = absl::StrCat(program, ": ", usage, "\n");
  for (size_t i = 0; i < bodies.size(); ++i) {
    if (bodies[i].empty()) continue;
    const std::string title = i < sections.size() ? sections[i].title : "Flags";
    absl::StrAppend(&help, "\n", title, ":\n", bodies[i]);
  }
  return help;
}

}  // namespace winnow
