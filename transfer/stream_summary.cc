#include "transfer/stream_summary.h"

#include "common/crc32c.h"

namespace winnow {

uint32_t ExtendStreamCrc(uint32_t crc, uint32_t chunk_crc) {
  unsigned char bytes[4];
  for (int i = 0; i < 4; ++i) bytes[i] = static_cast<unsigned char>(chunk_crc >> (8 * i));
  return Crc32c(bytes, 4, crc);
}

}  // namespace winnow
