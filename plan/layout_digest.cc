#include "plan/layout_digest.h"

#include <bit>
#include <cstdint>

#include "absl/strings/str_cat.h"

namespace winnow {

std::string LayoutDigest(const std::string& model_revision, const std::string& kv_dtype,
                         const ModelShape& shape, double rope_theta) {
  const std::string text =
      absl::StrCat(model_revision, "|", kv_dtype, "|", shape.num_layers, "|", shape.num_kv_heads,
                   "|", shape.head_dim, "|", absl::Hex(std::bit_cast<uint64_t>(rope_theta)));
  uint64_t hash = 0xCBF29CE484222325u;  // FNV-1a
  for (unsigned char c : text) hash = (hash ^ c) * 0x100000001B3u;
  return absl::StrCat(absl::Hex(hash, absl::kZeroPad16));
}

}  // namespace winnow
