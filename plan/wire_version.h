#pragma once

#include <cstdint>

namespace winnow {

#ifndef WINNOW_WIRE_VERSION
#define WINNOW_WIRE_VERSION 3  // tests build workers of the version before (tests/e2e)
#endif
// Of KvTransferService (docs/kv_wire_format.md): what this build speaks, newest and oldest.
inline constexpr uint32_t kWireVersion = WINNOW_WIRE_VERSION;
inline constexpr uint32_t kOldestWireVersion = 2;

}  // namespace winnow
