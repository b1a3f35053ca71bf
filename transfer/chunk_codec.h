#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "plan/wire_version.h"
#include "transfer/kv_chunk.h"

namespace winnow {

// docs/kv_wire_format.md. A Push message is protobuf's PushRequest{header, payload}, written by
// hand so that the payload is sent from where it lies: the bytes of EncodePrefix, then the payload;
// once or several times.
inline constexpr int kChunkHeaderBytes = 48;
inline constexpr uint32_t kMaxChunkPayload = 1 << 20;

// The header with its checksum set for `payload` (header.payload_bytes long).
void SealChunk(ChunkHeader& header, const std::byte* payload);

// What precedes the payload in a Push message.
std::string EncodePrefix(const ChunkHeader& header);

struct DecodedChunk {
  ChunkHeader header;
  absl::Span<const std::byte> payload;  // into the message
};
// Takes the first chunk off the rest of a message. DATA_LOSS: not an intact chunk (framing,
// lengths, checksum); looked at first, so that damage is never taken for a sender's mistake.
// INVALID_ARGUMENT: intact, but not a chunk of this version.
absl::StatusOr<DecodedChunk> TakeChunk(absl::Span<const std::byte>& rest);

}  // namespace winnow
