#include <cstdio>

#include "client/cli/args.h"
#include "client/cli/commands.h"
#include "client/cli/connect.h"
#include "client/cpp/winnow_client.h"
#include "nlohmann/json.hpp"
#include "wire/plan_proto.h"
#include "wire/worker_info.h"

namespace winnow {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kHelp[] = R"(winnow models: what a router serves.

  winnow models [options]

)";
constexpr char kMoreHelp[] = R"(  --json                  print one JSON object on one line

Exit codes: 0 ok · 2 bad command line · 4 try later · 5 too late · 1 other errors

  winnow models --address 127.0.0.1:50050
)";

Json ModelJson(const v1::Model& model) {
  Json json;
  json["id"] = model.id();
  json["vocab_size"] = model.vocab_size();
  json["max_context"] = model.max_context();
  if (const auto profile = FromProto(model.profile()); profile.ok()) {
    json["profile"] = Json::parse(SelectionConfigToJson(*profile));
  }
  json["chat_window_offset"] = model.chat_window_offset();
  json["workers"] = Json::array();
  for (const v1::WorkerInfo& worker : model.workers()) {
    json["workers"].push_back({{"role", RoleName(worker.role())},
                               {"address", worker.address()},
                               {"tensor_parallel", worker.tensor_parallel()},
                               {"kv_dtype", worker.kv_dtype()},
                               {"layout_digest", worker.layout_digest()},
                               {"queue_depth", worker.queue_depth()},
                               {"kv_blocks_total", worker.kv_blocks_total()},
                               {"kv_blocks_free", worker.kv_blocks_free()}});
  }
  return json;
}

void PrintModel(const v1::Model& model) {
  std::printf("%s: context %lld, vocabulary %lld\n", model.id().c_str(),
              static_cast<long long>(model.max_context()),
              static_cast<long long>(model.vocab_size()));
  for (const v1::WorkerInfo& worker : model.workers()) {
    std::printf("  %-7s %-21s tp %d, %s, %lld request(s)\n", RoleName(worker.role()),
                worker.address().c_str(), worker.tensor_parallel(), worker.kv_dtype().c_str(),
                static_cast<long long>(worker.queue_depth()));
  }
}

}  // namespace

int ModelsCommand(const std::vector<std::string>& words) {
  const absl::StatusOr<Args> args = Args::Parse(words, ConnectValues(), {"json", "help"});
  if (!args.ok()) return ReportUsage("models", args.status());
  if (args->Has("help")) {
    for (const char* part : {kHelp, kConnectHelp, kMoreHelp}) std::fputs(part, stdout);
    return kExitOk;
  }
  const auto client = Connect(*args);
  if (!client.ok()) return ReportUsage("models", client.status());
  const absl::StatusOr<std::vector<v1::Model>> models = (*client)->ListModels(absl::Seconds(10));
  if (!models.ok()) return ReportError(models.status());
  if (!args->Has("json")) {
    for (const v1::Model& model : *models) PrintModel(model);
    return kExitOk;
  }
  Json list = Json::array();
  for (const v1::Model& model : *models) list.push_back(ModelJson(model));
  std::printf("%s\n", Json{{"models", list}}.dump().c_str());
  return kExitOk;
}

}  // namespace winnow
