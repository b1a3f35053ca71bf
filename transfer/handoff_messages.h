#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "plan/kv_plan.h"
#include "plan/sampling_params.h"
#include "transfer/stream_summary.h"

namespace winnow {

// The messages of a handoff as plain values (docs/kv_wire_format.md).

// The parties of a handoff: which request and attempt, between which two processes.
struct TransferIdentity {
  std::string request_id;
  uint32_t attempt = 0;
  uint64_t source_incarnation = 0;
  uint64_t target_incarnation = 0;  // 0 in the first Reserve: any
  std::string layout_digest;
  uint32_t wire_version = 0;
};

struct ReserveParams {
  TransferIdentity identity;
  KvPlan plan;
  int max_tokens = 1;
  int num_streams = 1;  // over all source ranks
  // The newest version that the caller speaks; 0: only that of its identity.
  uint32_t newest_wire_version = 0;
  // Whose quota the reservation counts against: the name in the caller's certificate. Empty: its
  // incarnation.
  std::string peer;
};

struct ReserveGrant {
  std::string reservation_id;
  absl::Duration ttl;
  int64_t credit_bytes_per_stream = 0;
  uint64_t target_incarnation = 0;
  uint32_t wire_version = 0;  // from now on, in identities too
};

struct CommitParams {
  TransferIdentity identity;
  std::string reservation_id;
  int64_t num_prompt_tokens = 0;
  int64_t next_position = 0;
  std::vector<int32_t> tokens;
  SamplingParams sampling;
  std::vector<int64_t> entries_per_layer;
  std::vector<StreamSummary> streams;
};

// A sequence whose KV is complete, ready to be decoded.
struct CommittedSequence {
  std::string reservation_id;
  std::string request_id;
  uint32_t attempt = 0;
  int64_t handle = 0;  // of its KV memory
  KvPlan plan;
  int64_t next_position = 0;
  std::vector<int32_t> tokens;
  SamplingParams sampling;
};

}  // namespace winnow
