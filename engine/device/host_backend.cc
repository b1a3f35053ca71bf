#include "engine/device/host_backend.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace winnow {
namespace {

constexpr size_t kAlignment = 64;  // a cache line, and the widest vector

class DoneEvent final : public Event {
 public:
  bool IsDone() const override { return true; }
  absl::Status Wait(const Clock&, Deadline) override { return absl::OkStatus(); }
};

class HostMoment final : public Moment {
 public:
  double SecondsSince(const Moment& earlier) const override {
    return std::chrono::duration<double>(at_ - static_cast<const HostMoment&>(earlier).at_).count();
  }

 private:
  const std::chrono::steady_clock::time_point at_ = std::chrono::steady_clock::now();
};

}  // namespace

absl::StatusOr<Buffer> HostBackend::Allocate(size_t bytes) {
  const size_t rounded = (std::max<size_t>(bytes, 1) + kAlignment - 1) / kAlignment * kAlignment;
  void* data = rounded < bytes
                   ? nullptr
                   : std::aligned_alloc(kAlignment, rounded);  // less: it wrapped around
  if (data == nullptr) {
    return absl::ResourceExhaustedError(
        absl::StrCat(name(), ": cannot allocate ", bytes, " bytes of host memory"));
  }
  return Buffer(data, bytes, [](void* p) { std::free(p); });
}

void HostBackend::Copy(void* to, const void* from, size_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);
}

void HostBackend::Fill(float* to, float value, int64_t count) { std::fill(to, to + count, value); }

void HostBackend::WriteNow(void* to, size_t to_stride, const void* from, size_t from_stride,
                           size_t width, size_t rows) {
  for (size_t row = 0; row < rows; ++row) {
    std::memcpy(static_cast<std::byte*>(to) + row * to_stride,
                static_cast<const std::byte*>(from) + row * from_stride, width);
  }
}

void HostBackend::ZeroNow(void* at, size_t bytes) { std::memset(at, 0, bytes); }

MomentPtr HostBackend::Mark() { return std::make_unique<HostMoment>(); }

EventPtr HostBackend::Record() {
  static const EventPtr done = std::make_shared<DoneEvent>();
  return done;
}

}  // namespace winnow
