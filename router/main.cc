// The router: the address that clients know.
#include <atomic>
#include <optional>
#include <random>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "common/http_server.h"
#include "common/log.h"
#include "common/process.h"
#include "common/resolver.h"
#include "common/server_flags.h"
#include "common/status_macros.h"
#include "router/chat_window.h"
#include "router/client_tokens.h"
#include "router/client_tokens_watcher.h"
#include "router/front_door.h"
#include "router/generation_service.h"
#include "router/grpc_worker_clients.h"
#include "router/model_list.h"
#include "router/model_service.h"
#include "router/registered_workers.h"
#include "router/router_flags.h"
#include "router/static_workers.h"
#include "router/worker_registry.h"
#include "router/worker_registry_service.h"
#include "rpc/grpc_timer.h"
#include "rpc/server.h"
#include "rpc/tls_flags.h"

namespace winnow {
namespace {

// The clients that may call, kept as their file says. Without a file everybody may.
struct Callers {
  std::unique_ptr<ClientTokens> tokens;
  std::unique_ptr<ClientTokensWatcher> watcher;
};

absl::StatusOr<Callers> LoadCallers(const std::string& file, const Clock& clock) {
  Callers callers;
  if (file.empty()) return callers;
  WINNOW_ASSIGN_OR_RETURN(callers.tokens, ClientTokens::Load(file, clock));
  callers.watcher = std::make_unique<ClientTokensWatcher>(*callers.tokens, clock);
  return callers;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer(RouterConfig& config) {
  WINNOW_ASSIGN_OR_RETURN(std::unique_ptr<Tokenizer> tokenizer,
                          Tokenizer::Create(config.model_dir));
  if (!tokenizer->chat_status().ok()) spdlog::warn("{}", tokenizer->chat_status().ToString());
  std::optional<int>& offset = config.front_door.generation.chat_window_offset;
  WINNOW_ASSIGN_OR_RETURN(
      offset, ChatWindowOffset(config.model_dir, *tokenizer, config.chat_window_offset));
  if (offset) spdlog::info("window_offset of chat prompts: {}", *offset);
  return tokenizer;
}

// Whether every role that is expected has a worker.
bool IsReady(const WorkerRegistry& registry, bool expects_decode) {
  return registry.NumReady(v1::WORKER_ROLE_PREFILL) > 0 &&
         (!expects_decode || registry.NumReady(v1::WORKER_ROLE_DECODE) > 0);
}

void ExportWorkerGauges(const WorkerRegistry& registry, RouterMetrics& metrics) {
  for (const v1::WorkerRole role : {v1::WORKER_ROLE_PREFILL, v1::WORKER_ROLE_DECODE}) {
    metrics.OnWorkers(role, registry.Count(role));
  }
}

// Tells balancers, by gRPC and HTTP, whether requests are welcome, until a signal stops the router.
void ServeUntilStopped(const WorkerRegistry& registry, bool expects_decode, RpcServer& server,
                       const HttpServer* http, std::atomic<bool>& ready) {
  do {
    const bool now_ready = IsReady(registry, expects_decode);
    server.SetServing(now_ready);
    if (now_ready && !ready) {
      spdlog::info("winnow-router ready on {}{}", server.address(),
                   http ? absl::StrCat(" (http port ", http->port(), ")") : "");
    }
    ready = now_ready;
  } while (!WaitForStopSignal(absl::Milliseconds(50)));
  ready = false;
  server.SetServing(false);
}

absl::StatusOr<std::unique_ptr<RpcServer>> ServeGrpc(const RouterConfig& config,
                                                     std::vector<grpc::Service*> services) {
  // A little more than a request may have, so that the router itself refuses slightly larger ones.
  const int64_t max_message_bytes = config.front_door.generation.max_request_bytes + (1 << 20);
  return StartServer({.listen = config.listen,
                      .services = std::move(services),
                      .security = SecurityOfFlags(),
                      .max_message_bytes = static_cast<int>(max_message_bytes)});
}

absl::Status Run() {
  RealClock clock;
  GrpcTimer timer;
  WINNOW_ASSIGN_OR_RETURN(RouterConfig config, RouterConfigFromFlags());
  WINNOW_ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer, LoadTokenizer(config));
  WINNOW_ASSIGN_OR_RETURN(const Callers callers, LoadCallers(config.client_tokens, clock));

  SystemResolver resolver;
  const StaticWorkers static_workers(config.prefill_workers, config.decode_workers, resolver,
                                     config.resolve_period);
  RegisteredWorkers registered(clock, {});
  std::vector<const WorkerSource*> sources = {&static_workers};
  if (config.accept_registrations) sources.push_back(&registered);
  MetricsRegistry metrics_registry("router");
  ExportBuildInfo(metrics_registry);
  RouterMetrics metrics(metrics_registry);
  GrpcWorkerClients clients(clock, TlsFilesOfFlags());
  WorkerRegistry registry(clients, clock, sources, {.first_rotation = std::random_device{}()});
  RequestDriver::Options& driver = config.front_door.generation.driver;
  driver.waiting_room = std::make_shared<WaitingRoom>(
      timer, clock,
      RequestQueue::Options{.max_waiting = config.max_waiting, .wait_limit = driver.wait_limit});

  Executor executor("tokenize", config.tokenizer_threads);
  FrontDoor door({*tokenizer, clients, registry, clock, timer, metrics}, executor,
                 callers.tokens.get(), config.front_door);
  const ModelList model_list(registry, config.front_door.generation.chat_window_offset);
  GenerationService generation(door, clock);
  ModelService models(door, model_list);
  WorkerRegistryService registrations(registered);
  std::vector<grpc::Service*> services = {&generation, &models};
  if (config.accept_registrations) services.push_back(&registrations);
  WINNOW_ASSIGN_OR_RETURN(const std::unique_ptr<RpcServer> server,
                          ServeGrpc(config, std::move(services)));
  std::atomic<bool> ready{false};
  WINNOW_ASSIGN_OR_RETURN(const std::unique_ptr<HttpServer> http,
                          StartStatusPages(absl::GetFlag(FLAGS_http_listen), ready, [&] {
                            ExportWorkerGauges(registry, metrics);
                            metrics.OnWaiting(driver.waiting_room->size());
                            return metrics_registry.Serialize();
                          }));
  spdlog::info("listening on {}", server->address());
  ServeUntilStopped(registry, config.expects_decode, *server, http.get(), ready);
  door.Drain();
  WaitUntilIdle([&] { return door.num_running(); }, config.drain_timeout, clock);
  server->Shutdown(absl::Seconds(1));
  return absl::OkStatus();
}

}  // namespace
}  // namespace winnow

int main(int argc, char** argv) {
  winnow::StartServerProgram(
      argc, argv, "router",
      "Winnow's router: tokenizes prompts, places them on prefill and decode workers, streams "
      "text.\n"
      "  winnow-router --model DIR --prefill-workers HOST:PORT[,…] --decode-workers HOST:PORT[,…]\n"
      "  winnow-router --model DIR --accept-registrations\n"
      "It is ready when it has a ready prefill worker and, where one is expected, a decode "
      "worker.",
      {{"Router", "router/"}, {"TLS", "rpc/tls_flags.cc"}});
  return winnow::ExitCode(winnow::Run());
}
