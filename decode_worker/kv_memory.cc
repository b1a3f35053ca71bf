#include "decode_worker/kv_memory.h"

#include <algorithm>
#include <limits>

#include "common/log.h"

namespace winnow {
namespace {

// Over all ranks. The rank with the least memory decides, since all hold as many blocks.
int64_t DefaultBytes(const ModelRanks& ranks) {
  constexpr int64_t kUnlimited = std::numeric_limits<int64_t>::max();  // of the host's memory
  int64_t least = kUnlimited;
  for (const auto& backend : ranks.backends) least = std::min(least, backend->FreeBytes());
  if (least == kUnlimited) return int64_t{1} << 30;
  return least / 10 * 9 * static_cast<int64_t>(ranks.backends.size());
}

}  // namespace

absl::StatusOr<std::unique_ptr<PagedKv>> MakeKvMemory(const ModelRanks& ranks,
                                                      const KvMemoryOptions& options) {
  PagedKv::Options kv{.shape = ranks.config.shape,
                      .block_size = options.block_size,
                      .zero_freed = options.zero_freed,
                      .zero_in_background = options.zero_freed};
  for (const auto& backend : ranks.backends) kv.backends.push_back(backend.get());
  const auto num_ranks = static_cast<int>(kv.backends.size());
  const int64_t block_bytes =
      PagedKv::BlockBytes(kv.shape, num_ranks, kv.block_size, ElementSize(kv.backends[0]->dtype()));
  kv.num_blocks = (options.mib > 0 ? options.mib << 20 : DefaultBytes(ranks)) / block_bytes;
  absl::StatusOr<std::unique_ptr<PagedKv>> memory = PagedKv::Create(kv);
  if (!memory.ok()) return memory;
  spdlog::info(
      "KV memory: {:.0f} MiB over {} rank(s): {} blocks of {} entries, for {} tokens with unpruned "
      "KV",
      static_cast<double>(kv.num_blocks * block_bytes) / (1 << 20), num_ranks, kv.num_blocks,
      kv.block_size, kv.num_blocks * kv.block_size / kv.shape.num_layers);
  return memory;
}

}  // namespace winnow
