#include "worker/serve_worker.h"

#include <atomic>
#include <memory>

#include "absl/flags/flag.h"
#include "common/http_server.h"
#include "common/log.h"
#include "common/process.h"
#include "common/server_flags.h"
#include "common/status_macros.h"
#include "rpc/server.h"
#include "rpc/tls_flags.h"
#include "worker/registration_flags.h"

namespace winnow {
namespace {

// Until a stop signal, or an error.
absl::Status WaitForTheEnd(const WorkerProgram& program) {
  while (!WaitForStopSignal(absl::Milliseconds(500))) {
    WINNOW_RETURN_IF_ERROR(program.check());
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ServeWorker(const WorkerProgram& program, const Clock& clock) {
  WINNOW_ASSIGN_OR_RETURN(
      const std::unique_ptr<RpcServer> server,
      StartServer(
          {.listen = program.listen, .services = program.services, .security = SecurityOfFlags()}));
  std::atomic<bool> ready{true};
  WINNOW_ASSIGN_OR_RETURN(
      const std::unique_ptr<HttpServer> http,
      StartStatusPages(absl::GetFlag(FLAGS_http_listen), ready, program.metrics));
  server->SetServing(true);
  const WorkerIdentity& identity = program.identity;
  WINNOW_ASSIGN_OR_RETURN(std::unique_ptr<RegistrationByFlags> registration,
                          RegistrationByFlags::Start(ToProto(identity), server->address(), clock));
  spdlog::info("ready on {} (tp {}, {}, layout {}, wire version {}{})", server->address(),
               identity.tensor_parallel, identity.kv_dtype, identity.layout_digest,
               identity.wire_version, http ? ", http port " + std::to_string(http->port()) : "");

  const absl::Status end = WaitForTheEnd(program);
  ready = false;
  registration.reset();
  server->SetServing(false);
  if (end.ok()) {
    program.refuse_new();
    WaitUntilIdle(program.num_running, program.drain_timeout, clock);
  }
  server->Shutdown(absl::Seconds(end.ok() ? 1 : 0));
  return end;
}

}  // namespace winnow
