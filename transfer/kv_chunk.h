#pragma once

#include <cstddef>
#include <cstdint>

namespace winnow {

constexpr int kMaxPushStreams = 64;  // of one attempt, over all its ranks

enum class ChunkKind : uint8_t { kKeys = 0, kValues = 1, kPositions = 2 };

// A run of slots of one KV head in one layer: contiguous where it comes from and where it goes. The
// position row that all heads share counts as head 0.
struct ChunkHeader {
  ChunkKind kind = ChunkKind::kKeys;
  uint32_t stream = 0;
  uint32_t attempt = 0;
  uint64_t sequence = 0;  // per stream, from 0
  uint32_t layer = 0;
  uint32_t head = 0;
  uint32_t slot_begin = 0;
  uint32_t slot_count = 0;
  uint32_t payload_bytes = 0;
  uint32_t crc32c = 0;  // of the encoded header up to here, then the payload

  friend bool operator==(const ChunkHeader&, const ChunkHeader&) = default;
};

// A chunk whose payload is somebody else's memory.
struct KvChunk {
  ChunkHeader header;
  const std::byte* payload = nullptr;
};

}  // namespace winnow
