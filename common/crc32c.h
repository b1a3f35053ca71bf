#pragma once

#include <cstddef>
#include <cstdint>

namespace winnow {

// CRC-32C (Castagnoli, reflected polynomial 0x82F63B78) of `size` bytes, continuing from `crc` (0
// to begin). Crc32c("123456789", 9) == 0xE3069283. ISA-L's, on whatever instructions there are.
uint32_t Crc32c(const void* data, size_t size, uint32_t crc = 0);

}  // namespace winnow
