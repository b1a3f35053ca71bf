#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "common/executor.h"
#include "engine/device/backend.h"
#include "plan/head_split.h"
#include "plan/kv_layout.h"
#include "plan/kv_plan.h"

namespace winnow {

// Host memory for all that one prompt stores, per source rank, laid out by KvLayout: what the
// sender reads and what a Resend sends again. Lives until the last of sender and retention lets go;
// must not outlive the backends.
struct KvStaging {
  struct Rank {
    HeadSplit heads;
    KvLayout layout;  // empty on a rank that ships nothing
    Buffer memory;

    void* at(int64_t offset) const { return memory.at(offset); }
  };
  KvPlan plan;
  std::vector<Rank> ranks;

  int64_t bytes() const {
    int64_t sum = 0;
    for (const Rank& rank : ranks) sum += static_cast<int64_t>(rank.memory.bytes());
    return sum;
  }
};

// Shares `staging`; when the last of them lets go, `executor` overwrites the memory with zeros,
// since KV is prompt text, and gives it back.
std::shared_ptr<KvStaging> ZeroedWhenFreed(std::unique_ptr<KvStaging> staging,
                                           std::shared_ptr<Executor> executor);

}  // namespace winnow
