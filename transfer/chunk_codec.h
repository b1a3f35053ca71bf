#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "transfer/kv_chunk.h"

namespace winnow {

// docs/kv_wire_format.md. A Push message is protobuf's PushRequest{header, payload}, written by
// hand so that the payload is sent from where it lies: the bytes of EncodePrefix, then the payload;
// since wire version 2 once or several times.
inline constexpr int kChunkHeaderBytes = 48;
#ifndef WINNOW_WIRE_VERSION
#define WINNOW_WIRE_VERSION 2  // tests build workers of the version before (tests/e2e)
#endif
inline constexpr uint32_t kWireVersion = WINNOW_WIRE_VERSION;
inline constexpr uint32_t kOldestWireVersion = 1;  // spoken, too
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
