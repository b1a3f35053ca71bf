#include "engine/select/selection_digest.h"

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"

namespace winnow {
namespace {

constexpr char kMismatchPayload[] = "winnow/selection-mismatch";

}  // namespace

uint64_t SelectionDigest(absl::Span<const int32_t> positions) {
  uint64_t hash = 0xCBF29CE484222325u;  // FNV-1a over 32-bit words, finished by a multiply-xor mix
  for (int32_t position : positions)
    hash = (hash ^ static_cast<uint32_t>(position)) * 0x100000001B3u;
  hash ^= hash >> 32;
  hash *= 0xD6E8FEB86659FD93u;
  return hash ^ (hash >> 32);
}

absl::Status SelectionMismatch(uint64_t digest_of_rank_0, uint64_t digest, int rank) {
  absl::Status status = absl::InternalError(absl::StrCat(
      "prefill: ranks disagree about the selection: digest ", absl::Hex(digest_of_rank_0),
      " on rank 0, ", absl::Hex(digest), " on rank ", rank));
  status.SetPayload(kMismatchPayload, absl::Cord());
  return status;
}

bool IsSelectionMismatch(const absl::Status& status) {
  return status.GetPayload(kMismatchPayload).has_value();
}

}  // namespace winnow
