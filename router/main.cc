// The router: the address that clients know.
#include <atomic>
#include <random>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "common/http_server.h"
#include "common/log.h"
#include "common/process.h"
#include "common/program_flags.h"
#include "common/resolver.h"
#include "common/server_flags.h"
#include "common/status_macros.h"
#include "router/chat_window.h"
#include "router/client_tokens.h"
#include "router/generation_service.h"
#include "router/grpc_worker_clients.h"
#include "router/listed_workers.h"
#include "router/model_service.h"
#include "router/registered_workers.h"
#include "router/worker_registry.h"
#include "router/worker_registry_service.h"
#include "rpc/grpc_timer.h"
#include "rpc/server.h"
#include "rpc/tls_flags.h"
#include "wire/message_size.h"

ABSL_FLAG(std::string, listen, "127.0.0.1:50050",
          "host:port of the gRPC server; port 0 takes any free one");
ABSL_FLAG(std::string, model, "", "folder with the model's tokenizer.json (required)");
ABSL_FLAG(std::string, prefill_workers, "",
          "the prefill workers, separated by commas: host:port is one of them; dns:///host:port is "
          "one at every address that the name has, and the name is asked again and again");
ABSL_FLAG(std::string, decode_workers, "", "the decode workers, in the same way");
ABSL_FLAG(int64_t, resolve_period_s, 5, "how often the names in dns:///host:port are asked again");
ABSL_FLAG(bool, accept_registrations, false,
          "workers may register themselves (their --register-with): those that show a certificate "
          "of --tls-ca, come from loopback, or speak plain text where --allow-plaintext allows it");
ABSL_FLAG(bool, expect_decode, true,
          "ready only with a decode worker. Without --decode-workers and --accept-registrations "
          "none is expected anyway, and only requests with max_tokens 1 are served");
ABSL_FLAG(int, chat_window_offset, -1,
          "tokens at the end of a chat prompt that the scoring window skips; -1: what the chat "
          "template adds after the last message, unless claa.json sets window_offset");
ABSL_FLAG(bool, allow_explain, false, "answer requests for the kept positions");
ABSL_FLAG(std::string, client_tokens, "",
          "JSON file of the clients that may call, with their bearer tokens and limits; empty: all "
          "may. It is read again when it changes");
ABSL_FLAG(int64_t, max_request_bytes, winnow::kMaxMessageBytes,
          "a larger request is refused before it is tokenized; at most 16 MiB");
ABSL_FLAG(int64_t, max_requests, 4096, "running at a time; more are refused");
ABSL_FLAG(int64_t, max_running_bytes, int64_t{1} << 30,
          "of the requests that run at a time; more are refused");
ABSL_FLAG(
    int64_t, max_waiting, 1024,
    "requests that wait while all workers are full, highest priority first; more are refused");
ABSL_FLAG(
    int64_t, max_wait_s, 10,
    "the longest wait while all workers are full or none is ready, but at most a quarter of a "
    "request's time; then it is refused");
ABSL_FLAG(int64_t, default_timeout_s, 600,
          "deadline of requests that bring none, and the longest for all");
ABSL_FLAG(int, max_attempts, 4, "tries of one request, the first among them");
ABSL_FLAG(int, tokenizer_threads, 2, "threads that tokenize and admit");
ABSL_FLAG(int64_t, drain_timeout_s, 60, "time that running requests get after SIGTERM");

namespace winnow {
namespace {

absl::StatusOr<std::vector<std::string>> Addresses(const std::string& flag,
                                                   const std::string& list) {
  absl::StatusOr<std::vector<std::string>> addresses = AddressList::Parse(list);
  if (addresses.ok()) return addresses;
  return absl::InvalidArgumentError(
      absl::StrCat("--", flag, ": ", std::string(addresses.status().message())));
}

absl::Status CheckFlags() {
  if (absl::GetFlag(FLAGS_model).empty()) return absl::InvalidArgumentError("--model is empty");
  WINNOW_RETURN_IF_ERROR(CheckFlagRange("max-request-bytes", absl::GetFlag(FLAGS_max_request_bytes),
                                        1, kMaxMessageBytes));
  WINNOW_RETURN_IF_ERROR(
      CheckFlagRange("chat-window-offset", absl::GetFlag(FLAGS_chat_window_offset), -1, 1'000));
  WINNOW_RETURN_IF_ERROR(
      CheckFlagRange("max-requests", absl::GetFlag(FLAGS_max_requests), 1, 1'000'000));
  WINNOW_RETURN_IF_ERROR(CheckFlagRange("max-running-bytes", absl::GetFlag(FLAGS_max_running_bytes),
                                        absl::GetFlag(FLAGS_max_request_bytes)));
  WINNOW_RETURN_IF_ERROR(
      CheckFlagRange("max-waiting", absl::GetFlag(FLAGS_max_waiting), 1, 1'000'000));
  WINNOW_RETURN_IF_ERROR(CheckFlagRange("max-wait-s", absl::GetFlag(FLAGS_max_wait_s), 0, 86'400));
  WINNOW_RETURN_IF_ERROR(
      CheckFlagRange("default-timeout-s", absl::GetFlag(FLAGS_default_timeout_s), 1, 86'400));
  WINNOW_RETURN_IF_ERROR(
      CheckFlagRange("tokenizer-threads", absl::GetFlag(FLAGS_tokenizer_threads), 1, 256));
  WINNOW_RETURN_IF_ERROR(
      CheckFlagRange("drain-timeout-s", absl::GetFlag(FLAGS_drain_timeout_s), 0, 86'400));
  WINNOW_RETURN_IF_ERROR(
      CheckFlagRange("resolve-period-s", absl::GetFlag(FLAGS_resolve_period_s), 1, 86'400));
  return CheckFlagRange("max-attempts", absl::GetFlag(FLAGS_max_attempts), 1, 100);
}

absl::StatusOr<GenerationService::Options> ServiceOptions(const Tokenizer& tokenizer) {
  GenerationService::Options options;
  options.generation.allow_explain = absl::GetFlag(FLAGS_allow_explain);
  options.generation.max_request_bytes =
      static_cast<size_t>(absl::GetFlag(FLAGS_max_request_bytes));
  options.generation.driver.max_attempts = absl::GetFlag(FLAGS_max_attempts);
  options.default_timeout = absl::Seconds(absl::GetFlag(FLAGS_default_timeout_s));
  options.max_running = absl::GetFlag(FLAGS_max_requests);
  options.max_running_bytes = absl::GetFlag(FLAGS_max_running_bytes);
  options.generation.driver.patience.max_wait = absl::Seconds(absl::GetFlag(FLAGS_max_wait_s));
  WINNOW_ASSIGN_OR_RETURN(options.generation.chat_window_offset,
                          ChatWindowOffset(absl::GetFlag(FLAGS_model), tokenizer,
                                           absl::GetFlag(FLAGS_chat_window_offset)));
  if (const auto offset = options.generation.chat_window_offset) {
    spdlog::info("window_offset of chat prompts: {}", *offset);
  }
  return options;
}

// Null: whoever comes may ask.
absl::StatusOr<std::unique_ptr<ClientTokens>> LoadClientTokens(const Clock& clock) {
  const std::string file = absl::GetFlag(FLAGS_client_tokens);
  if (file.empty()) return nullptr;
  return ClientTokens::Load(file, clock);
}

// Who the workers are: what the flags name, then who registered.
struct Discovery {
  SystemResolver resolver;
  std::unique_ptr<ListedWorkers> listed;
  std::unique_ptr<RegisteredWorkers> registered;  // if registrations are accepted
  std::unique_ptr<WorkerRegistryService> service;
  bool expects_decode = true;

  std::vector<WorkerAddress> Workers() const {
    std::vector<WorkerAddress> workers = listed->Workers();
    if (registered == nullptr) return workers;
    const std::vector<WorkerAddress> more = registered->Workers();
    workers.insert(workers.end(), more.begin(), more.end());
    return workers;
  }
};

absl::StatusOr<std::unique_ptr<Discovery>> MakeDiscovery(const Clock& clock) {
  auto discovery = std::make_unique<Discovery>();
  WINNOW_ASSIGN_OR_RETURN(const std::vector<std::string> prefill,
                          Addresses("prefill-workers", absl::GetFlag(FLAGS_prefill_workers)));
  WINNOW_ASSIGN_OR_RETURN(const std::vector<std::string> decode,
                          Addresses("decode-workers", absl::GetFlag(FLAGS_decode_workers)));
  const bool registers = absl::GetFlag(FLAGS_accept_registrations);
  if (prefill.empty() && !registers) {
    return absl::InvalidArgumentError(
        "--prefill-workers is empty, and without --accept-registrations there will be none");
  }
  discovery->listed = std::make_unique<ListedWorkers>(
      prefill, decode, discovery->resolver, absl::Seconds(absl::GetFlag(FLAGS_resolve_period_s)));
  if (registers) {
    discovery->registered =
        std::make_unique<RegisteredWorkers>(clock, RegisteredWorkers::Options{});
    discovery->service = std::make_unique<WorkerRegistryService>(*discovery->registered);
  }
  discovery->expects_decode = absl::GetFlag(FLAGS_expect_decode) && (registers || !decode.empty());
  return discovery;
}

// True while every role that is expected has a worker.
bool Look(const WorkerRegistry& registry, bool expects_decode, RouterMetrics& metrics) {
  for (const v1::WorkerRole role : {v1::WORKER_ROLE_PREFILL, v1::WORKER_ROLE_DECODE}) {
    metrics.OnWorkers(role, registry.Count(role));
  }
  return registry.NumReady(v1::WORKER_ROLE_PREFILL) > 0 &&
         (!expects_decode || registry.NumReady(v1::WORKER_ROLE_DECODE) > 0);
}

absl::Status Run() {
  RealClock clock;
  WINNOW_RETURN_IF_ERROR(CheckFlags());
  WINNOW_ASSIGN_OR_RETURN(const std::unique_ptr<Discovery> discovery, MakeDiscovery(clock));
  WINNOW_ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer,
                          Tokenizer::Create(absl::GetFlag(FLAGS_model)));
  if (!tokenizer->chat_status().ok()) spdlog::warn("{}", tokenizer->chat_status().ToString());
  WINNOW_ASSIGN_OR_RETURN(GenerationService::Options service_options, ServiceOptions(*tokenizer));
  MetricsRegistry metrics_registry("router");
  ExportBuildInfo(metrics_registry);
  RouterMetrics metrics(metrics_registry);
  GrpcWorkerClients clients(clock, TlsFilesOfFlags());
  WorkerRegistry registry(clients, clock, {.first_rotation = std::random_device{}()});
  GrpcTimer timer;
  const auto waiting_room = std::make_shared<WaitingRoom>(
      timer, clock,
      RequestQueue::Options{.max_waiting = static_cast<size_t>(absl::GetFlag(FLAGS_max_waiting)),
                            .patience = service_options.generation.driver.patience});
  service_options.generation.driver.waiting_room = waiting_room;
  Executor executor("tokenize", absl::GetFlag(FLAGS_tokenizer_threads));
  WINNOW_ASSIGN_OR_RETURN(const std::unique_ptr<ClientTokens> tokens, LoadClientTokens(clock));
  GenerationService generation({*tokenizer, clients, registry, clock, timer, metrics}, executor,
                               tokens.get(), service_options);
  ModelService models(registry, service_options.generation.chat_window_offset, tokens.get());
  std::vector<grpc::Service*> services = {&generation, &models};
  if (discovery->service != nullptr) services.push_back(discovery->service.get());
  WINNOW_ASSIGN_OR_RETURN(
      const std::unique_ptr<RpcServer> server,
      StartServer({.listen = absl::GetFlag(FLAGS_listen),
                   .services = services,
                   .security = SecurityOfFlags(),
                   // A little more, so that our own words refuse what is just too large.
                   .max_message_bytes =
                       static_cast<int>(absl::GetFlag(FLAGS_max_request_bytes)) + (1 << 20)}));
  std::atomic<bool> ready{false};
  WINNOW_ASSIGN_OR_RETURN(const std::unique_ptr<HttpServer> http,
                          StartStatusPages(absl::GetFlag(FLAGS_http_listen), ready, [&] {
                            metrics.OnWaiting(waiting_room->size());
                            return metrics_registry.Serialize();
                          }));
  spdlog::info("listening on {}", server->address());

  do {
    registry.SetWorkers(discovery->Workers());
    const bool now_ready = Look(registry, discovery->expects_decode, metrics);
    server->SetServing(now_ready);
    if (now_ready && !ready) {
      spdlog::info("winnow-router ready on {}{}", server->address(),
                   http ? absl::StrCat(" (http port ", http->port(), ")") : "");
    }
    ready = now_ready;
    if (const absl::Status read = tokens ? tokens->ReloadIfChanged() : absl::OkStatus();
        !read.ok()) {
      spdlog::error("{}; the clients stay as they were", read.ToString());
    }
  } while (!WaitForStopSignal(absl::Milliseconds(50)));

  ready = false;
  server->SetServing(false);
  generation.Drain();
  WaitUntilIdle([&] { return generation.num_running(); },
                absl::Seconds(absl::GetFlag(FLAGS_drain_timeout_s)), clock);
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
