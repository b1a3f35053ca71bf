#include "client/cli/stages_json.h"

namespace winnow {

nlohmann::ordered_json StagesJson(const StageTimes& stages) {
  return {{"tokenize", stages.tokenize},
          {"admit", stages.admit},
          {"dispatch", stages.dispatch},
          {"queue", stages.queue},
          {"reserve_wait", stages.reserve_wait},
          {"full_layers", stages.full_layers},
          {"score", stages.score},
          {"allreduce", stages.allreduce},
          {"select", stages.select},
          {"pruned_layers", stages.pruned_layers},
          {"head", stages.head},
          {"relay", stages.relay}};
}

}  // namespace winnow
