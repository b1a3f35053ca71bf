#include "router/chat_window.h"

#include "common/read_file.h"
#include "common/status_macros.h"
#include "plan/selection_config.h"

namespace winnow {

absl::StatusOr<std::optional<int>> ChatWindowOffset(const std::string& model_dir,
                                                    const Tokenizer& tokenizer, int wanted) {
  if (wanted >= 0) return wanted;
  if (const auto text = ReadFile(model_dir + "/claa.json")) {
    WINNOW_ASSIGN_OR_RETURN(const SelectionOverrides profile, ParseSelectionJson(*text));
    if (profile.window_offset) return std::nullopt;
  }
  return tokenizer.chat_suffix_tokens();
}

}  // namespace winnow
