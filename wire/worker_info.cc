#include "wire/worker_info.h"

#include <random>

#include "wire/plan_proto.h"

namespace winnow {

v1::WorkerInfo ToProto(const WorkerIdentity& identity) {
  v1::WorkerInfo info;
  info.set_role(identity.role);
  info.set_incarnation(identity.incarnation);
  info.set_tensor_parallel(identity.tensor_parallel);
  info.set_layout_digest(identity.layout_digest);
  info.set_kv_dtype(identity.kv_dtype);
  info.set_model_id(identity.model_id);
  info.set_max_context(identity.shape.max_context);
  info.set_vocab_size(identity.shape.vocab_size);
  *info.mutable_profile() = ToProto(identity.profile);
  info.mutable_eos_token_ids()->Add(identity.eos_token_ids.begin(), identity.eos_token_ids.end());
  info.set_explain_allowed(identity.explain_allowed);
  info.add_wire_versions(identity.wire_version);
  return info;
}

const char* RoleName(v1::WorkerRole role) {
  return role == v1::WORKER_ROLE_PREFILL ? "prefill" : "decode";
}

uint64_t NewIncarnation() {
  std::random_device random;
  return (uint64_t{random()} << 32 | random()) | 1;  // never 0, which means "any"
}

}  // namespace winnow
