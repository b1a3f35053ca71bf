#pragma once

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "tokenizer/tokenizer.h"

namespace winnow {

// The window_offset (docs/claa.md) of prompts that went through the chat template. Such a prompt
// ends in fixed tokens that say nothing of what was asked; the window of queries that scores skips
// them. `wanted` if it is 0 or more; otherwise none where MODEL_DIR/claa.json sets window_offset,
// which then counts for all prompts, and else the template's number of such tokens.
// INVALID_ARGUMENT: a claa.json that is not valid.
absl::StatusOr<std::optional<int>> ChatWindowOffset(const std::string& model_dir,
                                                    const Tokenizer& tokenizer, int wanted);

}  // namespace winnow
