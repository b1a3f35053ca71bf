#pragma once

namespace winnow {

// Of this build, such as "0.1.0".
const char* Version();
// What it was built for: "cpu" or "cpu+cuda".
const char* BuiltForDevices();

}  // namespace winnow
