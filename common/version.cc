#include "common/version.h"

#include "absl/strings/str_cat.h"

namespace winnow {

const char* Version() { return WINNOW_VERSION; }
const char* BuiltForDevices() { return WINNOW_DEVICES; }

std::string VersionLine(const std::string& program) {
  return absl::StrCat(program, " ", Version(), " (", BuiltForDevices(), ")\n");
}

}  // namespace winnow
