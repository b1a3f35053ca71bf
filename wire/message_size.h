#pragma once

namespace winnow {

// The largest message that servers and channels carry, unless they are told otherwise.
inline constexpr int kMaxMessageBytes = 16 << 20;

}  // namespace winnow
