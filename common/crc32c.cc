#include "common/crc32c.h"

#include <isa-l/crc.h>

#include <algorithm>
#include <limits>

namespace winnow {

uint32_t Crc32c(const void* data, size_t size, uint32_t crc) {
  constexpr size_t kMost = std::numeric_limits<int>::max();        // of one call
  auto* p = static_cast<unsigned char*>(const_cast<void*>(data));  // it only reads
  crc = ~crc;
  for (; size > 0; p += std::min(size, kMost), size -= std::min(size, kMost)) {
    crc = crc32_iscsi(p, static_cast<int>(std::min(size, kMost)), crc);
  }
  return ~crc;
}

}  // namespace winnow
