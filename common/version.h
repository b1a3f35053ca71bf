#pragma once

#include <string>

namespace winnow {

// Of this build, such as "0.1.0".
const char* Version();
// What it was built for: "cpu" or "cpu+cuda".
const char* BuiltForDevices();
// What --version of a program prints: "winnow 0.1.0 (cpu)" and a newline.
std::string VersionLine(const std::string& program);

}  // namespace winnow
