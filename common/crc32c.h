#pragma once

#include <cstddef>
#include <cstdint>

namespace winnow {

// CRC-32C (Castagnoli, reflected polynomial 0x82F63B78) of `size` bytes, continuing from `crc` (0
// to begin). Crc32c("123456789", 9) == 0xE3069283. Uses SSE4.2 where the processor has it, else a
// table.
uint32_t Crc32c(const void* data, size_t size, uint32_t crc = 0);

// The table version alone, for tests.
uint32_t Crc32cPortable(const void* data, size_t size, uint32_t crc = 0);

}  // namespace winnow
