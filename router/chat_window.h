#pragma once

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "tokenizer/tokenizer.h"

namespace winnow {

// The window_offset (docs/claa.md) for prompts made by the chat template. Such a prompt ends in
// fixed tokens that say nothing about the question, so the scoring window skips them. Returns
// `wanted` if it is 0 or more; otherwise nothing if MODEL_DIR/claa.json sets window_offset, which
// then holds for all prompts; otherwise the number of the template's fixed last tokens.
// INVALID_ARGUMENT: claa.json is not valid.
absl::StatusOr<std::optional<int>> ChatWindowOffset(const std::string& model_dir,
                                                    const Tokenizer& tokenizer, int wanted);

}  // namespace winnow
