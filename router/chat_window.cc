#include "router/chat_window.h"

#include <fstream>
#include <sstream>

#include "common/status_macros.h"
#include "plan/selection_config.h"

namespace winnow {

absl::StatusOr<std::optional<int>> ChatWindowOffset(const std::string& model_dir,
                                                    const Tokenizer& tokenizer, int wanted) {
  if (wanted >= 0) return wanted;
  if (std::ifstream file(model_dir + "/claa.json", std::ios::binary); file) {
    std::stringstream text;
    text << file.rdbuf();
    WINNOW_ASSIGN_OR_RETURN(const SelectionOverrides profile, ParseSelectionJson(text.str()));
    if (profile.window_offset) return std::nullopt;
  }
  return tokenizer.chat_suffix_tokens();
}

}  // namespace winnow
