#include <unistd.h>

#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/args.h"
#include "client/cli/commands.h"
#include "client/cli/connect.h"
#include "client/cli/generate_request.h"
#include "client/cli/interrupt.h"
#include "client/cli/progress.h"
#include "client/cli/stages_json.h"
#include "client/cpp/winnow_client.h"
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
)";
constexpr char kOptionsHelp[] = R"(  --keep-ratio R          share of the prompt to keep, in (0, 1]
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

)";
constexpr char kMoreHelp[] = R"(  --timeout-s N           give up after so many seconds (600)
  --json                  print one JSON object on one line at the end

Exit codes: 0 ok · 2 bad command line · 3 refused · 4 try later · 5 cancelled or too late · 1 other errors

  winnow generate --prompt-file question.txt --keep-ratio 0.1
  winnow generate --prompt 'Hello' --policy full --max-tokens 20 --json
)";

// "--policy NAME", with a line for every policy that there is.
std::string PolicyHelp() {
  std::string help = "  --policy NAME           how prompt tokens are selected:\n";
  for (const Policy* policy : Policies()) {
    absl::StrAppendFormat(&help, "    %-9s             %s\n", policy->name, policy->summary);
  }
  return help;
}

Json SegmentJson(const Ledger::Segment& s) {
  return {
      {"layers", s.layers}, {"entries_kept", s.entries_kept}, {"entries_pruned", s.entries_pruned}};
}

Json ResultJson(const GenerateResult& r, bool explain) {
  Json json;
  json["request_id"] = r.request_id;
  json["trace_id"] = r.trace_id;
  json["text"] = r.text;
  json["token_ids"] = r.token_ids;
  json["prompt_tokens"] = r.prompt_tokens;
  json["kept_tokens"] = r.ledger.kept_tokens;
  if (explain) json["kept_positions"] = r.kept_positions;
  json["ttft_s"] = r.ttft_s;
  json["router_ttft_s"] = r.router_ttft_s;
  json["total_s"] = r.total_s;
  json["finish_reason"] = r.finish_reason;
  json["policy"] = r.selection.policy->name;
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
  json["stages"] = StagesJson(r.stages);
  return json;
}

}  // namespace

int GenerateCommand(const std::vector<std::string>& words) {
  std::vector<std::string> values = GenerateRequestValues(), flags = GenerateRequestFlags();
  values.push_back("timeout-s");
  values.insert(values.end(), ConnectValues().begin(), ConnectValues().end());
  flags.insert(flags.end(), {"json", "help"});
  const absl::StatusOr<Args> args = Args::Parse(words, values, flags);
  if (!args.ok()) return ReportUsage("generate", args.status());
  if (args->Has("help")) {
    const std::string policies = PolicyHelp();
    for (const char* part : {kHelp, policies.c_str(), kOptionsHelp, kConnectHelp, kMoreHelp}) {
      std::fputs(part, stdout);
    }
    return kExitOk;
  }
  const absl::StatusOr<v1::GenerateRequest> request = ParseGenerateRequest(*args);
  if (!request.ok()) return ReportUsage("generate", request.status());
  const absl::StatusOr<absl::Duration> timeout = args->GetSeconds("timeout-s", absl::Minutes(10));
  if (!timeout.ok()) return ReportUsage("generate", timeout.status());
  const auto client = Connect(*args);
  if (!client.ok()) return ReportUsage("generate", client.status());

  const StopFlag& interrupted = StopOnSignals();
  const bool json = args->Has("json");
  Progress progress(isatty(STDERR_FILENO) != 0, "connecting");
  GenerateCallbacks callbacks;
  callbacks.started = [&](int64_t prompt_tokens) {
    progress.SetLabel(absl::StrCat("prefilling ", prompt_tokens, " tokens"));
  };
  callbacks.token = [&](int32_t, int32_t, const std::string& text) {
    progress.Stop();
    if (json) return;
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  };
  const absl::StatusOr<GenerateResult> result =
      (*client)->Generate(*request, *timeout, callbacks, &interrupted);
  progress.Stop();
  if (!result.ok()) return ReportError(result.status());
  std::printf("%s\n", json ? ResultJson(*result, args->Has("explain")).dump().c_str() : "");
  return kExitOk;
}

}  // namespace winnow
