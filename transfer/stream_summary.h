#pragma once

#include <cstdint>

namespace winnow {

// What a push stream carried. Both ends count it as chunks pass; the commit compares the two.
struct StreamSummary {
  uint64_t num_chunks = 0;
  uint32_t crc32c = 0;  // over the chunks' checksums in order, each as four little-endian bytes
  friend bool operator==(const StreamSummary&, const StreamSummary&) = default;
};

// `crc` continued with the checksum of one more chunk.
uint32_t ExtendStreamCrc(uint32_t crc, uint32_t chunk_crc);

}  // namespace winnow
