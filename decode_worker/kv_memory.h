#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "engine/kv/paged_kv.h"
#include "engine/ranks/model_ranks.h"

namespace winnow {

struct KvMemoryOptions {
  int64_t mib = 0;  // over all ranks; 0: 1024 on the CPU, nine tenths of what is free on GPUs
  int block_size = 16;
  bool zero_freed = true;
};

// The KV blocks of a decode worker on its ranks, which must outlive them. Logs their size. Errors
// are those of PagedKv::Create. REQUIRES: block_size ≥ 1.
absl::StatusOr<std::unique_ptr<PagedKv>> MakeKvMemory(const ModelRanks& ranks,
                                                      const KvMemoryOptions& options);

}  // namespace winnow
