#pragma once

#include <string>
#include <vector>

#include "plan/model_shape.h"
#include "plan/selection_config.h"
#include "winnow/v1/model.pb.h"

namespace winnow {

// What a worker says of itself that does not change while it runs.
struct WorkerIdentity {
  v1::WorkerRole role = v1::WORKER_ROLE_UNSPECIFIED;
  uint64_t incarnation = 0;
  int tensor_parallel = 1;
  std::string layout_digest;
  std::string kv_dtype;
  std::string model_id;
  ModelShape shape;  // with the worker's own max_context
  SelectionConfig profile;
  std::vector<int> eos_token_ids;
  bool explain_allowed = false;
  uint32_t wire_version = 0;  // of KvTransferService
};
v1::WorkerInfo ToProto(const WorkerIdentity& identity);

// "prefill" or "decode".
const char* RoleName(v1::WorkerRole role);

// 64 random bits that name one process start.
uint64_t NewIncarnation();

}  // namespace winnow
