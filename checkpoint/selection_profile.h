#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "plan/model_shape.h"
#include "plan/selection_config.h"

namespace winnow {

// The model folder's selection profile: the depth's defaults, then MODEL_DIR/claa.json where there
// is one. Errors name file and field.
absl::StatusOr<SelectionConfig> LoadSelectionProfile(const std::string& model_dir,
                                                     const ModelShape& shape);

}  // namespace winnow
