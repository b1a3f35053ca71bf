#include "checkpoint/selection_profile.h"

#include "absl/strings/str_cat.h"
#include "common/read_file.h"
#include "common/status_macros.h"

namespace winnow {

absl::StatusOr<SelectionConfig> LoadSelectionProfile(const std::string& model_dir,
                                                     const ModelShape& shape) {
  const SelectionConfig defaults = DefaultSelectionConfig(shape);
  const std::string path = model_dir + "/claa.json";
  const std::optional<std::string> text = ReadFile(path);
  if (!text) return ResolveSelectionConfig(defaults, {}, shape);
  absl::StatusOr<SelectionConfig> config;
  if (absl::StatusOr<SelectionOverrides> overrides = ParseSelectionJson(*text); overrides.ok()) {
    config = ResolveSelectionConfig(defaults, *overrides, shape);
  } else {
    config = overrides.status();
  }
  if (config.ok()) return config;
  return absl::Status(config.status().code(),
                      absl::StrCat(path, ": ", std::string(config.status().message())));
}

}  // namespace winnow
