#include <unistd.h>

#include <algorithm>
#include <atomic>

#include <csignal>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <sstream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "client/cli/args.h"
#include "client/cli/commands.h"
#include "client/cpp/winnow_client.h"
#include "common/status_macros.h"
#include "nlohmann/json.hpp"

namespace winnow {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kHelp[] = R"(winnow generate: asks a Winnow router for text.

  winnow generate (--prompt TEXT | --prompt-file F | --token-ids 1,2,…) [options]

Prompt
  --prompt TEXT           one user message, put through the model's chat template
  --prompt-file F         the same from a file, byte for byte; - is standard input
  --token-ids 1,2,…       token ids, as they are
  --raw                   the text is not put through the template; special tokens in it are parsed

Selection (unset: the model's profile)
  --policy full|claa      keep everything, or the tokens that matter
  --keep-ratio R          share of the prompt to keep, in (0, 1]
  --min-prompt-tokens K   shorter prompts are not pruned
  --min-kept-tokens K     keep at least so many tokens
  --explain               also tell which positions were kept (with --json)

Sampling
  --max-tokens M          at most so many tokens (256)
  --temperature T         0 = greedy (default)
  --top-k K, --top-p P    cut the distribution
  --seed S                same seed, same tokens
  --stop S                end before this string; may be given several times
  --ignore-eos            go on at the model's own end

  --address HOST:PORT     the router (127.0.0.1:50050)
  --timeout-s N           give up after so many seconds (600)
  --json                  print one JSON object on one line at the end

Exit codes: 0 ok · 2 bad command line · 3 refused · 4 try later · 5 cancelled or too late · 1 other errors

  winnow generate --prompt-file question.txt --keep-ratio 0.1
  winnow generate --prompt 'Hello' --policy full --max-tokens 20 --json
)";

StopFlag interrupted;  // set by Ctrl-C; a signal handler can reach nothing else

absl::StatusOr<std::string> ReadPromptFile(const std::string& path) {
  std::stringstream text;
  if (path == "-") {
    text << std::cin.rdbuf();
    return text.str();
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::InvalidArgumentError(absl::StrCat("--prompt-file: cannot read ", path));
  text << file.rdbuf();
  return text.str();
}

absl::Status FillPrompt(const Args& args, v1::GenerateRequest& request) {
  std::vector<std::string> given;
  for (const char* name : {"prompt", "prompt-file", "token-ids"}) {
    if (args.Has(name)) given.push_back(std::string("--") + name);
  }
  if (given.size() > 1) return absl::InvalidArgumentError(absl::StrCat(given[0], " and ", given[1], " exclude each other"));
  if (given.empty()) return absl::InvalidArgumentError("one of --prompt, --prompt-file and --token-ids is needed");
  if (args.Has("token-ids")) {
    if (args.Has("raw")) return absl::InvalidArgumentError("--raw and --token-ids exclude each other");
    WINNOW_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, args.GetInts("token-ids"));
    request.mutable_token_ids()->mutable_ids()->Add(ids.begin(), ids.end());
    return absl::OkStatus();
  }
  std::string text = args.Get("prompt");
  if (args.Has("prompt-file")) {
    WINNOW_ASSIGN_OR_RETURN(text, ReadPromptFile(args.Get("prompt-file")));
  }
  args.Has("raw") ? request.set_raw(text) : request.set_text(text);
  return absl::OkStatus();
}

absl::Status FillSelection(const Args& args, v1::SelectionOptions& selection) {
  if (args.Has("policy")) selection.set_policy(args.Get("policy"));
  if (args.Has("keep-ratio")) {
    WINNOW_ASSIGN_OR_RETURN(const double ratio, args.GetDouble("keep-ratio"));
    selection.set_keep_ratio(ratio);
  }
  if (args.Has("min-prompt-tokens")) {
    WINNOW_ASSIGN_OR_RETURN(const int64_t tokens, args.GetInt("min-prompt-tokens"));
    selection.set_min_prompt_tokens(tokens);
  }
  if (args.Has("min-kept-tokens")) {
    WINNOW_ASSIGN_OR_RETURN(const int64_t tokens, args.GetInt("min-kept-tokens"));
    selection.set_min_kept_tokens(tokens);
  }
  selection.set_explain(args.Has("explain"));
  return absl::OkStatus();
}

absl::Status FillSampling(const Args& args, v1::SamplingOptions& sampling) {
  if (args.Has("max-tokens")) {
    WINNOW_ASSIGN_OR_RETURN(const int64_t tokens, args.GetInt("max-tokens"));
    sampling.set_max_tokens(static_cast<int32_t>(std::clamp<int64_t>(tokens, INT32_MIN, INT32_MAX)));
  }
  if (args.Has("temperature")) {
    WINNOW_ASSIGN_OR_RETURN(const double temperature, args.GetDouble("temperature"));
    sampling.set_temperature(temperature);
  }
  if (args.Has("top-k")) {
    WINNOW_ASSIGN_OR_RETURN(const int64_t k, args.GetInt("top-k"));
    sampling.set_top_k(static_cast<int32_t>(std::clamp<int64_t>(k, INT32_MIN, INT32_MAX)));
  }
  if (args.Has("top-p")) {
    WINNOW_ASSIGN_OR_RETURN(const double p, args.GetDouble("top-p"));
    sampling.set_top_p(p);
  }
  if (args.Has("seed")) {
    WINNOW_ASSIGN_OR_RETURN(const int64_t seed, args.GetInt("seed"));
    sampling.set_seed(static_cast<uint64_t>(seed));
  }
  for (const std::string& stop : args.GetAll("stop")) sampling.add_stop(stop);
  sampling.set_ignore_eos(args.Has("ignore-eos"));
  return absl::OkStatus();
}

Json SegmentJson(const Ledger::Segment& s) {
  return {{"layers", s.layers}, {"entries_kept", s.entries_kept}, {"entries_pruned", s.entries_pruned}};
}

Json ResultJson(const GenerateResult& r, bool explain) {
  Json json;
  json["request_id"] = r.request_id;
  json["text"] = r.text;
  json["token_ids"] = r.token_ids;
  json["prompt_tokens"] = r.prompt_tokens;
  json["kept_tokens"] = r.ledger.kept_tokens;
  if (explain) json["kept_positions"] = r.kept_positions;
  json["ttft_s"] = r.ttft_s;
  json["router_ttft_s"] = r.router_ttft_s;
  json["total_s"] = r.total_s;
  json["finish_reason"] = r.finish_reason;
  json["policy"] = SelectionPolicyName(r.selection.policy);
  json["prefill_tp"] = r.prefill_tensor_parallel;
  const Ledger& l = r.ledger;
  json["ledger"] = {{"prompt_tokens", l.prompt_tokens},
                    {"kept_tokens", l.kept_tokens},
                    {"computed_token_layers", l.computed_token_layers},
                    {"kv_bytes_full", l.kv_bytes_full},
                    {"kv_bytes_shipped", l.kv_bytes_shipped},
                    {"segments",
                     {{"all", SegmentJson(l.all)},
                      {"per_head", SegmentJson(l.per_head)},
                      {"selected", SegmentJson(l.selected)}}}};
  const StageTimes& s = r.stages;
  json["stages"] = {{"tokenize", s.tokenize},       {"admit", s.admit},   {"dispatch", s.dispatch},
                    {"queue", s.queue},             {"reserve_wait", s.reserve_wait},
                    {"full_layers", s.full_layers}, {"score", s.score},   {"allreduce", s.allreduce},
                    {"select", s.select},           {"pruned_layers", s.pruned_layers},
                    {"head", s.head},               {"relay", s.relay}};
  return json;
}

// "… waiting" on a terminal until the first token comes.
class Progress {
 public:
  explicit Progress(bool enabled) {
    if (!enabled) return;
    thread_ = std::thread([this] {
      for (int tenths = 0; !done_; ++tenths) {
        if (tenths > 2) std::fprintf(stderr, "\r%s %.1f s ", label_.load(), tenths / 10.0);
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
      }
      std::fprintf(stderr, "\r\033[K");
    });
  }
  ~Progress() { Stop(); }
  void Prefilling() { label_ = "prefilling"; }
  void Stop() {
    done_ = true;
    if (thread_.joinable()) thread_.join();
  }

 private:
  std::atomic<bool> done_{false};
  std::atomic<const char*> label_{"connecting"};
  std::thread thread_;
};

}  // namespace

int GenerateCommand(const std::vector<std::string>& words) {
  const absl::StatusOr<Args> args = Args::Parse(
      words,
      {"address", "prompt", "prompt-file", "token-ids", "policy", "keep-ratio", "min-prompt-tokens",
       "min-kept-tokens", "max-tokens", "temperature", "top-k", "top-p", "seed", "stop", "timeout-s"},
      {"raw", "explain", "json", "ignore-eos", "help"});
  if (!args.ok()) return ReportUsage("generate", args.status());
  if (args->Has("help")) {
    std::fputs(kHelp, stdout);
    return kExitOk;
  }
  v1::GenerateRequest request;
  double timeout_s = 600;
  absl::Status parsed = FillPrompt(*args, request);
  if (parsed.ok()) parsed = FillSelection(*args, *request.mutable_selection());
  if (parsed.ok()) parsed = FillSampling(*args, *request.mutable_sampling());
  if (parsed.ok() && args->Has("timeout-s")) {
    const absl::StatusOr<double> value = args->GetDouble("timeout-s");
    parsed = value.status();
    if (value.ok()) timeout_s = *value;
  }
  if (!parsed.ok()) return ReportUsage("generate", parsed);

  const auto client = WinnowClient::Create(args->Get("address", "127.0.0.1:50050"));
  if (!client.ok()) return ReportUsage("generate", client.status());
  std::signal(SIGINT, [](int) { interrupted.Stop(absl::StatusCode::kCancelled); });
  const bool json = args->Has("json");
  Progress progress(isatty(STDERR_FILENO) != 0);
  GenerateCallbacks callbacks;
  callbacks.started = [&](int64_t) { progress.Prefilling(); };
  callbacks.token = [&](int32_t, int32_t, const std::string& text) {
    progress.Stop();
    if (json) return;
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  };
  const absl::StatusOr<GenerateResult> result =
      (*client)->Generate(request, absl::Seconds(timeout_s), callbacks, &interrupted);
  progress.Stop();
  if (!result.ok()) return ReportError(result.status());
  std::printf("%s\n", json ? ResultJson(*result, args->Has("explain")).dump().c_str() : "");
  return kExitOk;
}

}  // namespace winnow
