#include "common/process.h"

#include <malloc.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/deadline.h"
#include "common/host_port.h"
#include "common/log.h"

namespace winnow {
namespace {

sigset_t StopSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  return set;
}

}  // namespace

void BlockStopSignals() {
  const sigset_t set = StopSignals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

bool WaitForStopSignal(absl::Duration timeout) {
  const sigset_t set = StopSignals();
  const timespec wait = absl::ToTimespec(timeout);
  return sigtimedwait(&set, nullptr, &wait) > 0;
}

void WaitUntilIdle(const std::function<int64_t()>& num_running, absl::Duration longest,
                   const Clock& clock) {
  spdlog::info("stopping: {} request(s) running", num_running());
  const Deadline end = Deadline::After(clock, longest);
  while (num_running() > 0 && !end.HasPassed(clock)) absl::SleepFor(absl::Milliseconds(20));
}

void KeepFreedMemory() {
  mallopt(M_MMAP_THRESHOLD, 32 << 20);  // the most that glibc takes
  mallopt(M_TRIM_THRESHOLD, 512 << 20);
}

int ExitCode(const absl::Status& status) {
  if (status.ok()) return 0;
  spdlog::error("{}: {}", absl::StatusCodeToString(status.code()), std::string(status.message()));
  return 1;
}

absl::StatusOr<std::unique_ptr<HttpServer>> StartStatusPages(const std::string& listen,
                                                             const std::atomic<bool>& ready,
                                                             std::function<std::string()> metrics) {
  if (listen.empty()) return nullptr;
  const absl::StatusOr<HostPort> address = ParseListenAddress(listen);
  if (!address.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("--http-listen: ", address.status().message()));
  }
  HttpServer::Options options{.host = address->host, .port = address->port};
  options.get["/metrics"] = [metrics = std::move(metrics)] {
    return HttpServer::Response{.body = metrics(),
                                .content_type = "text/plain; version=0.0.4; charset=utf-8"};
  };
  options.get["/healthz"] = [] { return HttpServer::Response{.body = "ok\n"}; };
  options.get["/readyz"] = [&ready] {
    return ready ? HttpServer::Response{.body = "ready\n"}
                 : HttpServer::Response{.code = 503, .body = "not ready\n"};
  };
  return HttpServer::Create(std::move(options));
}

std::string ModelId(const std::string& model_dir) {
  std::filesystem::path path = std::filesystem::path(model_dir).lexically_normal();
  if (path.filename().empty()) path = path.parent_path();
  return path.filename().string();
}

}  // namespace winnow
