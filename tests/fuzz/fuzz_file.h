#pragma once

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace winnow {

// A folder in memory for readers that take a path; one per process.
inline std::string FuzzFolder() {
  static const std::string folder = [] {
    const std::string path = "/dev/shm/winnow_fuzz_" + std::to_string(getpid());
    std::filesystem::create_directories(path);
    std::atexit([] {
      std::error_code ignored;
      std::filesystem::remove_all("/dev/shm/winnow_fuzz_" + std::to_string(getpid()), ignored);
    });
    return path;
  }();
  return folder;
}

inline void WriteFuzzFile(const std::string& name, const uint8_t* data, size_t size) {
  std::ofstream(FuzzFolder() + "/" + name, std::ios::binary)
      .write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
}

// Ends the process, which the fuzzer reports with the input.
inline void Require(bool holds) {
  if (!holds) std::abort();
}

}  // namespace winnow
