#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "checkpoint/model_config.h"
#include "checkpoint/selection_profile.h"
#include "checkpoint/shard_plan.h"
#include "checkpoint/weight_table.h"
#include "client/cli/args.h"
#include "client/cli/commands.h"
#include "common/status_macros.h"
#include "nlohmann/json.hpp"
#include "plan/prefill_flop.h"

namespace winnow {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kHelp[] =
    R"(winnow inspect: what Winnow makes of a model folder. Reads its configuration only.

  winnow inspect MODEL_DIR [--json]

Prints family and sizes, weights per tensor-parallel rank and KV per token in bf16, the selection
profile, and for some prompt lengths what it keeps and the ideal ratio of times to first token, full
over pruned, by floating-point operations.

Exit codes: 0 ok · 2 bad command line · 3 the model is refused · 1 other errors

  winnow inspect models/demo
)";

constexpr int kElementBytes = 2;
constexpr int kRanks[] = {1, 2, 4, 8};
constexpr int64_t kPrompts[] = {2048, 8192, 32768, 131072};

struct Prompt {
  int64_t tokens, kept, kv_bytes_full, kv_bytes;
  double ideal_ratio;
};

struct Model {
  ModelConfig config;
  SelectionConfig profile;
  std::vector<std::pair<int, absl::StatusOr<int64_t>>> bytes_per_rank;
  std::vector<Prompt> prompts;

  int64_t kv_bytes_per_token() const {
    const ModelShape& s = config.shape;
    return 2 * int64_t{s.num_layers} * s.num_kv_heads * s.head_dim * kElementBytes;
  }
};

absl::StatusOr<int64_t> BytesPerRank(const ModelConfig& config, int tensor_parallel) {
  WINNOW_ASSIGN_OR_RETURN(const ShardPlan shard, MakeShardPlan(config.shape, tensor_parallel, 0));
  return NumWeights(config, shard) * kElementBytes;
}

absl::StatusOr<Model> Inspect(const std::string& folder) {
  Model model;
  WINNOW_ASSIGN_OR_RETURN(model.config, LoadModelConfig(folder));
  const ModelShape& shape = model.config.shape;
  WINNOW_ASSIGN_OR_RETURN(model.profile, LoadSelectionProfile(folder, shape));
  for (const int ranks : kRanks) {
    model.bytes_per_rank.emplace_back(ranks, BytesPerRank(model.config, ranks));
  }
  WINNOW_ASSIGN_OR_RETURN(const SelectionConfig full,
                          ResolveSelectionConfig(model.profile, {.policy = "full"}, shape));
  for (const int64_t tokens : kPrompts) {
    if (tokens > shape.max_context) break;
    const PrefillPlan plan = MakePrefillPlan(shape, model.profile, tokens);
    const PrefillPlan unpruned = MakePrefillPlan(shape, full, tokens);
    model.prompts.push_back({tokens, plan.num_kept(), unpruned.kv.payload_bytes(kElementBytes),
                             plan.kv.payload_bytes(kElementBytes),
                             PrefillFlop(shape, unpruned) / PrefillFlop(shape, plan)});
  }
  return model;
}

Json ToJson(const Model& model) {
  const ModelShape& s = model.config.shape;
  Json json = {{"family", model.config.family},
               {"layers", s.num_layers},
               {"hidden", s.hidden},
               {"q_heads", s.num_q_heads},
               {"kv_heads", s.num_kv_heads},
               {"head_dim", s.head_dim},
               {"intermediate", s.intermediate},
               {"vocab_size", s.vocab_size},
               {"max_context", s.max_context},
               {"kv_bytes_per_token", model.kv_bytes_per_token()},
               {"weight_bytes_per_rank", Json::object()},
               {"profile", Json::parse(SelectionConfigToJson(model.profile))},
               {"prompts", Json::array()}};
  for (const auto& [ranks, bytes] : model.bytes_per_rank) {
    json["weight_bytes_per_rank"][std::to_string(ranks)] = bytes.ok() ? Json(*bytes) : Json();
  }
  for (const Prompt& p : model.prompts) {
    json["prompts"].push_back({{"tokens", p.tokens},
                               {"kept_tokens", p.kept},
                               {"kv_bytes_full", p.kv_bytes_full},
                               {"kv_bytes", p.kv_bytes},
                               {"ideal_ttft_ratio", p.ideal_ratio}});
  }
  return json;
}

void Print(const Model& model) {
  const ModelShape& s = model.config.shape;
  std::printf("%s: %d layers, hidden %d, %d query and %d KV heads of %d, MLP %d\n",
              model.config.family.c_str(), s.num_layers, s.hidden, s.num_q_heads, s.num_kv_heads,
              s.head_dim, s.intermediate);
  std::printf("vocabulary %d, context %lld tokens\n", s.vocab_size,
              static_cast<long long>(s.max_context));
  std::printf("KV of a token: %.1f KiB in bf16\n",
              static_cast<double>(model.kv_bytes_per_token()) / 1024);
  for (const auto& [ranks, bytes] : model.bytes_per_rank) {
    if (bytes.ok()) {
      std::printf("tp %d: %.3f GB of weights per rank in bf16\n", ranks,
                  static_cast<double>(*bytes) * 1e-9);
    } else {
      std::printf("tp %d: %s\n", ranks, std::string(bytes.status().message()).c_str());
    }
  }
  std::printf("selection: %s\n", SelectionConfigToJson(model.profile).c_str());
  std::printf("%9s %9s %14s %14s %12s\n", "prompt", "kept", "KV full", "KV shipped", "ideal ratio");
  for (const Prompt& p : model.prompts) {
    std::printf("%9lld %9lld %11.1f MB %11.1f MB %12.2f\n", static_cast<long long>(p.tokens),
                static_cast<long long>(p.kept), static_cast<double>(p.kv_bytes_full) * 1e-6,
                static_cast<double>(p.kv_bytes) * 1e-6, p.ideal_ratio);
  }
}

}  // namespace

int InspectCommand(const std::vector<std::string>& words) {
  const bool has_folder = !words.empty() && words[0].rfind('-', 0) != 0;
  const absl::StatusOr<Args> args =
      Args::Parse({words.begin() + (has_folder ? 1 : 0), words.end()}, {}, {"json", "help"});
  if (!args.ok()) return ReportUsage("inspect", args.status());
  if (args->Has("help")) {
    std::fputs(kHelp, stdout);
    return kExitOk;
  }
  if (!has_folder) {
    return ReportUsage("inspect", absl::InvalidArgumentError("MODEL_DIR is missing"));
  }
  const absl::StatusOr<Model> model = Inspect(words[0]);
  if (!model.ok()) return ReportError(model.status());
  if (args->Has("json")) {
    std::printf("%s\n", ToJson(*model).dump().c_str());
  } else {
    Print(*model);
  }
  return kExitOk;
}

}  // namespace winnow
