#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace winnow {

// A whole file, mapped read-only; unmapped by the destructor. Thread-safe. The file must not be
// truncated meanwhile (the process would get SIGBUS, as with every mapped file).
class MappedFile {
 public:
  // NOT_FOUND or INVALID_ARGUMENT (not a regular file, cannot be mapped); the text names the file.
  static absl::StatusOr<std::unique_ptr<MappedFile>> Open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  absl::Span<const std::byte> bytes() const { return {data_, size_}; }

 private:
  MappedFile(const std::byte* data, size_t size) : data_(data), size_(size) {}
  const std::byte* data_;
  size_t size_;
};

}  // namespace winnow
