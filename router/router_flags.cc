#include "router/router_flags.h"

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "common/address_list.h"
#include "common/program_flags.h"
#include "common/status_macros.h"
#include "wire/message_size.h"

ABSL_FLAG(std::string, listen, "127.0.0.1:50050",
          "host:port of the gRPC server; port 0 takes any free one");
ABSL_FLAG(std::string, model, "", "folder with the model's tokenizer.json (required)");
ABSL_FLAG(
    std::string, prefill_workers, "",
    "comma-separated prefill workers: host:port, or dns:///host:port for every address that the "
    "name resolves to (re-resolved every --resolve-period-s)");
ABSL_FLAG(std::string, decode_workers, "", "comma-separated decode workers, in the same form");
ABSL_FLAG(int64_t, resolve_period_s, 5,
          "seconds between two look-ups of a name in dns:///host:port");
ABSL_FLAG(bool, accept_registrations, false,
          "let workers register themselves (their --register-with) if they show a certificate of "
          "--tls-ca, come from loopback, or speak plain text where --allow-plaintext allows it");
ABSL_FLAG(
    bool, expect_decode, true,
    "be ready only with a ready decode worker. Without --decode-workers and "
    "--accept-registrations none is expected, and only requests with max_tokens 1 are served");
ABSL_FLAG(int, chat_window_offset, -1,
          "tokens at the end of a chat prompt that the scoring window skips; -1: what the chat "
          "template adds after the last message, unless claa.json sets window_offset");
ABSL_FLAG(bool, allow_explain, false, "answer requests for the kept positions");
ABSL_FLAG(std::string, client_tokens, "",
          "JSON file of the clients that may call, with their bearer tokens and limits; reloaded "
          "when it changes; empty: everybody may call");
ABSL_FLAG(int64_t, max_request_bytes, winnow::kMaxMessageBytes,
          "largest request; larger ones are refused before they are tokenized; at most 16 MiB");
ABSL_FLAG(int64_t, max_requests, 4096, "requests that run at a time; more are refused");
ABSL_FLAG(int64_t, max_running_bytes, int64_t{1} << 30,
          "bytes of all requests that run at a time; more are refused");
ABSL_FLAG(
    int64_t, max_waiting, 1024,
    "requests that wait while all workers are full, highest priority first; more are refused");
ABSL_FLAG(
    int64_t, max_wait_s, 10,
    "longest wait of a request while all workers are full or none is ready, at most a quarter of "
    "its time; then it is refused");
ABSL_FLAG(int64_t, default_timeout_s, 600,
          "deadline of requests that set none, and the longest for all");
ABSL_FLAG(int, max_attempts, 4, "attempts per request, the first included");
ABSL_FLAG(int, tokenizer_threads, 2, "threads that tokenize and admit");
ABSL_FLAG(int64_t, drain_timeout_s, 60, "seconds that running requests get after SIGTERM");

namespace winnow {
namespace {

absl::StatusOr<std::vector<std::string>> Addresses(const std::string& flag,
                                                   const std::string& list) {
  absl::StatusOr<std::vector<std::string>> addresses = AddressList::Parse(list);
  if (addresses.ok()) return addresses;
  return absl::InvalidArgumentError(
      absl::StrCat("--", flag, ": ", std::string(addresses.status().message())));
}

absl::Status CheckRanges() {
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

FrontDoor::Options FrontDoorOptions() {
  FrontDoor::Options options;
  options.generation.allow_explain = absl::GetFlag(FLAGS_allow_explain);
  options.generation.max_request_bytes = absl::GetFlag(FLAGS_max_request_bytes);
  options.generation.driver.max_attempts = absl::GetFlag(FLAGS_max_attempts);
  options.generation.driver.wait_limit.max_wait = absl::Seconds(absl::GetFlag(FLAGS_max_wait_s));
  options.default_timeout = absl::Seconds(absl::GetFlag(FLAGS_default_timeout_s));
  options.max_running = absl::GetFlag(FLAGS_max_requests);
  options.max_running_bytes = absl::GetFlag(FLAGS_max_running_bytes);
  return options;
}

}  // namespace

absl::StatusOr<RouterConfig> RouterConfigFromFlags() {
  RouterConfig config;
  config.model_dir = absl::GetFlag(FLAGS_model);
  if (config.model_dir.empty()) return absl::InvalidArgumentError("--model is empty");
  WINNOW_RETURN_IF_ERROR(CheckRanges());
  WINNOW_ASSIGN_OR_RETURN(config.prefill_workers,
                          Addresses("prefill-workers", absl::GetFlag(FLAGS_prefill_workers)));
  WINNOW_ASSIGN_OR_RETURN(config.decode_workers,
                          Addresses("decode-workers", absl::GetFlag(FLAGS_decode_workers)));
  config.accept_registrations = absl::GetFlag(FLAGS_accept_registrations);
  if (config.prefill_workers.empty() && !config.accept_registrations) {
    return absl::InvalidArgumentError(
        "--prefill-workers is empty, and without --accept-registrations there will be none");
  }
  config.expects_decode = absl::GetFlag(FLAGS_expect_decode) &&
                          (config.accept_registrations || !config.decode_workers.empty());
  config.listen = absl::GetFlag(FLAGS_listen);
  config.resolve_period = absl::Seconds(absl::GetFlag(FLAGS_resolve_period_s));
  config.chat_window_offset = absl::GetFlag(FLAGS_chat_window_offset);
  config.client_tokens = absl::GetFlag(FLAGS_client_tokens);
  config.front_door = FrontDoorOptions();
  config.max_waiting = static_cast<size_t>(absl::GetFlag(FLAGS_max_waiting));
  config.tokenizer_threads = absl::GetFlag(FLAGS_tokenizer_threads);
  config.drain_timeout = absl::Seconds(absl::GetFlag(FLAGS_drain_timeout_s));
  return config;
}

}  // namespace winnow
