#pragma once

#include <string>
#include <vector>

namespace winnow {

// A section of a program's --help: the flags that the sources under `path` define. `path` is a
// source file or a folder with a slash at its end, from the repository's root.
struct FlagSection {
  std::string title;
  std::string path;
};

// The text of --help: `usage`, then every flag of the program with its type, its default and its
// help, in the order of `sections` and by name within one. A flag belongs to the first section that
// holds its source; flags of no section come last, under "Flags". Abseil's own flags are left out.
std::string ProgramHelp(const std::string& program, const std::string& usage,
                        const std::vector<FlagSection>& sections);

}  // namespace winnow
