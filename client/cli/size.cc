#include <algorithm>
#include <cstdio>
#include <numeric>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "checkpoint/model_config.h"
#include "checkpoint/selection_profile.h"
#include "client/cli/args.h"
#include "client/cli/commands.h"
#include "client/cli/load_plan.h"
#include "client/cli/sizing.h"
#include "common/status_macros.h"
#include "nlohmann/json.hpp"
#include "plan/prefill_flop.h"

namespace winnow {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kHelp[] =
    R"(winnow size: how many prefill and decode workers a load needs. Reads a model's configuration only.

  winnow size MODEL_DIR --rate R --prefill-time TOKENS:SECONDS --inter-token-ms MS --decode-kv-gib G [options]

The load
  --rate R                      requests a second
  --prompt-tokens MIX           lengths and weights, such as 2048:3,32768:1 (8192)
  --keep-ratio MIX              keep ratios and weights, such as full:1,0.1:3 (0.1)
  --max-tokens M                generated for each (256)

What a worker does: measure it, with the number of ranks that yours have
  --prefill-time TOKENS:SECONDS an unpruned prompt of so many tokens takes so long by itself; other lengths
                                and keep ratios follow by their floating-point operations
  --inter-token-ms MS           a decode step with a full batch
  --max-batch B                 sequences in a decode step (64)
  --decode-kv-gib G             KV memory of a decode worker, which it logs when it starts

What is wanted
  --ttft-slo-s S                to the first token of the longest prompt (2)
  --quantile Q                  … for this share of them, and room for as many sequences (0.99)
  --max-utilisation U           of a prefill worker (0.8)

)";
constexpr char kMoreHelp[] = R"(  --json                        print one JSON object on one line

Least numbers: add one of each where a worker may be away. docs/operating.md has the formulas.
Exit codes: 0 ok · 2 bad command line · 3 it cannot be done, or the model is refused · 1 other errors

  winnow size models/demo --rate 4 --prefill-time 8000:2.1 --inter-token-ms 12 --decode-kv-gib 1 --ttft-slo-s 5
)";

constexpr int kElementBytes = 2;  // of K and V: bf16

struct Wanted {
  double rate = 0, ttft_slo_s = 2, quantile = 0.99, max_utilisation = 0.8;
  double inter_token_ms = 0, decode_kv_gib = 0;
  int64_t measured_tokens = 0;
  double measured_seconds = 0;
  int32_t max_tokens = 256, max_batch = 64;
  Mix<int64_t> prompt_tokens;
  Mix<double> keep_ratios;
};

absl::Status ReadPositive(const Args& args, const std::string& name, double high, double* value) {
  if (args.Has(name)) {
    WINNOW_ASSIGN_OR_RETURN(*value, args.GetDouble(name));
  }
  if (*value > 0 && *value < high) return absl::OkStatus();
  if (!args.Has(name)) return absl::InvalidArgumentError(absl::StrCat("--", name, " is required"));
  return absl::InvalidArgumentError(
      absl::StrCat("--", name, ": must be above 0 and below ", high, ", got ", *value));
}

absl::Status ReadCount(const Args& args, const std::string& name, int32_t* value) {
  if (args.Has(name)) {
    WINNOW_ASSIGN_OR_RETURN(*value, args.GetInt<int32_t>(name));
  }
  if (*value >= 1) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("--", name, ": must be 1 or more, got ", *value));
}

absl::Status ReadPrefillTime(const std::string& text, Wanted* wanted) {
  const std::vector<std::string> pair = absl::StrSplit(text, absl::MaxSplits(':', 1));
  if (pair.size() == 2 && absl::SimpleAtoi(pair[0], &wanted->measured_tokens) &&
      absl::SimpleAtod(pair[1], &wanted->measured_seconds) && wanted->measured_tokens > 0 &&
      wanted->measured_seconds > 0 && wanted->measured_seconds < 1e6) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("--prefill-time: expected TOKENS:SECONDS, got '", text, "'"));
}

absl::StatusOr<Wanted> ReadWanted(const Args& args) {
  Wanted w;
  WINNOW_RETURN_IF_ERROR(ReadPositive(args, "rate", 1e6, &w.rate));
  WINNOW_RETURN_IF_ERROR(ReadPrefillTime(args.Get("prefill-time"), &w));
  WINNOW_RETURN_IF_ERROR(ReadPositive(args, "inter-token-ms", 1e6, &w.inter_token_ms));
  WINNOW_RETURN_IF_ERROR(ReadPositive(args, "decode-kv-gib", 1e6, &w.decode_kv_gib));
  WINNOW_RETURN_IF_ERROR(ReadPositive(args, "ttft-slo-s", 1e6, &w.ttft_slo_s));
  WINNOW_RETURN_IF_ERROR(ReadPositive(args, "quantile", 1, &w.quantile));
  WINNOW_RETURN_IF_ERROR(ReadPositive(args, "max-utilisation", 1, &w.max_utilisation));
  WINNOW_RETURN_IF_ERROR(ReadCount(args, "max-tokens", &w.max_tokens));
  WINNOW_RETURN_IF_ERROR(ReadCount(args, "max-batch", &w.max_batch));
  WINNOW_ASSIGN_OR_RETURN(w.prompt_tokens, ParseTokenMix(args.Get("prompt-tokens", "8192")));
  WINNOW_ASSIGN_OR_RETURN(w.keep_ratios, ParseKeepMix(args.Get("keep-ratio", "0.1")));
  return w;
}

// Every length with every keep ratio.
absl::StatusOr<SizedLoad> MakeLoad(const std::string& model_dir, const Wanted& wanted) {
  WINNOW_ASSIGN_OR_RETURN(const ModelConfig config, LoadModelConfig(model_dir));
  const ModelShape& shape = config.shape;
  WINNOW_ASSIGN_OR_RETURN(const SelectionConfig profile, LoadSelectionProfile(model_dir, shape));
  WINNOW_ASSIGN_OR_RETURN(const SelectionConfig full,
                          ResolveSelectionConfig(profile, {.policy = "full"}, shape));
  const double seconds_per_flop =
      wanted.measured_seconds /
      PrefillFlop(shape, MakePrefillPlan(shape, full, wanted.measured_tokens));
  const double token_bytes =
      2.0 * kElementBytes * shape.num_layers * shape.num_kv_heads * shape.head_dim;
  const auto total = [](const std::vector<double>& weights) {
    return std::accumulate(weights.begin(), weights.end(), 0.0);
  };
  const Mix<int64_t>& lengths = wanted.prompt_tokens;
  const Mix<double>& ratios = wanted.keep_ratios;
  const double weights = total(lengths.weights) * total(ratios.weights);

  SizedLoad load{.rate = wanted.rate};
  for (size_t i = 0; i < lengths.values.size(); ++i) {
    if (lengths.values[i] + wanted.max_tokens - 1 > shape.max_context) {
      return absl::InvalidArgumentError(absl::StrCat(
          lengths.values[i], " prompt and ", wanted.max_tokens,
          " generated tokens are more than the model's context of ", shape.max_context));
    }
    for (size_t j = 0; j < ratios.values.size(); ++j) {
      SelectionConfig selection = full;
      if (ratios.values[j] < 1) {
        WINNOW_ASSIGN_OR_RETURN(
            selection, ResolveSelectionConfig(
                           profile, {.policy = "claa", .keep_ratio = ratios.values[j]}, shape));
      }
      const PrefillPlan plan = MakePrefillPlan(shape, selection, lengths.values[i]);
      load.classes.push_back(
          {.share = lengths.weights[i] * ratios.weights[j] / weights,
           .prefill_seconds = PrefillFlop(shape, plan) * seconds_per_flop,
           .kv_bytes = static_cast<double>(plan.kv.payload_bytes(kElementBytes)) +
                       token_bytes * (wanted.max_tokens - 1)});
    }
  }
  return load;
}

void Print(const Wanted& wanted, const PrefillSize& prefill, const DecodeSize& decode) {
  std::printf(
      "prefill workers  %lld   busy %.0f %% of the time; first token within %.3f s (asked: %.3f "
      "s)\n",
      static_cast<long long>(prefill.workers), 100 * prefill.utilisation, prefill.ttft_seconds,
      wanted.ttft_slo_s);
  std::printf("decode workers   %lld   %.0f sequences and %.1f GiB of KV at a time; %s decides\n",
              static_cast<long long>(decode.workers), decode.sequences, decode.kv_bytes / (1 << 30),
              decode.is_memory_bound ? "memory" : "the batch");
}

Json ToJson(const PrefillSize& prefill, const DecodeSize& decode) {
  return {{"prefill_workers", prefill.workers},
          {"prefill_utilisation", prefill.utilisation},
          {"queue_wait_s", prefill.wait_seconds},
          {"ttft_s", prefill.ttft_seconds},
          {"decode_workers", decode.workers},
          {"decode_sequences", decode.sequences},
          {"decode_kv_bytes", decode.kv_bytes},
          {"decode_bound_by", decode.is_memory_bound ? "memory" : "batch"}};
}

absl::Status Size(const std::string& model_dir, const Wanted& wanted, bool json) {
  WINNOW_ASSIGN_OR_RETURN(const SizedLoad load, MakeLoad(model_dir, wanted));
  WINNOW_ASSIGN_OR_RETURN(
      const PrefillSize prefill,
      SizePrefill(load, wanted.ttft_slo_s, wanted.quantile, wanted.max_utilisation));
  WINNOW_ASSIGN_OR_RETURN(
      const DecodeSize decode,
      SizeDecode(load, wanted.inter_token_ms * 1e-3 * (wanted.max_tokens - 1), wanted.max_batch,
                 wanted.decode_kv_gib * (1 << 30), wanted.quantile));
  if (json) {
    std::printf("%s\n", ToJson(prefill, decode).dump().c_str());
  } else {
    Print(wanted, prefill, decode);
  }
  return absl::OkStatus();
}

}  // namespace

int SizeCommand(const std::vector<std::string>& words) {
  const bool has_folder = !words.empty() && words[0].rfind('-', 0) != 0;
  const absl::StatusOr<Args> args = Args::Parse(
      {words.begin() + (has_folder ? 1 : 0), words.end()},
      {"rate", "prompt-tokens", "keep-ratio", "max-tokens", "prefill-time", "inter-token-ms",
       "max-batch", "decode-kv-gib", "ttft-slo-s", "quantile", "max-utilisation"},
      {"json", "help"});
  if (!args.ok()) return ReportUsage("size", args.status());
  if (args->Has("help")) {
    std::printf("%s%s", kHelp, kMoreHelp);
    return kExitOk;
  }
  if (!has_folder) {
    return ReportUsage("size", absl::InvalidArgumentError("MODEL_DIR is missing"));
  }
  const absl::StatusOr<Wanted> wanted = ReadWanted(*args);
  if (!wanted.ok()) return ReportUsage("size", wanted.status());
  const absl::Status sized = Size(words[0], *wanted, args->Has("json"));
  return sized.ok() ? kExitOk : ReportError(sized);
}

}  // namespace winnow
