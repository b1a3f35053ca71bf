#pragma once

#include <string>

#include "plan/model_shape.h"

namespace winnow {

// Hex digest of what two workers must share to exchange KV: the model's revision, the KV's element
// type, the shape of its cache and its rotation.
std::string LayoutDigest(const std::string& model_revision, const std::string& kv_dtype,
                         const ModelShape& shape, double rope_theta);

}  // namespace winnow
