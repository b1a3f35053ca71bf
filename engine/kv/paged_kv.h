#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/device/backend.h"
#include "plan/head_split.h"
#include "plan/kv_plan.h"
#include "plan/model_shape.h"

namespace winnow {

// The decode worker's KV memory: blocks of block_size entries, any block for any layer, so that layers of different lengths
// waste at most one block each. One allocator decides for all ranks; each rank's pool holds its own KV heads.
// Thread-safe; a sequence's blocks are written by one thread at a time.
class PagedKv {
 public:
  struct Options {
    ModelShape shape;
    std::vector<Backend*> backends;  // by rank; must outlive it
    int block_size = 16;
    int64_t num_blocks = 0;
    bool zero_freed = true;  // KV is prompt text: overwrite it when its sequence ends
  };
  // RESOURCE_EXHAUSTED: the pools do not fit.
  static absl::StatusOr<std::unique_ptr<PagedKv>> Create(Options options);

  // Bytes of one block over all ranks, K and V.
  static int64_t BlockBytes(const ModelShape& shape, int tensor_parallel, int block_size, int element_bytes);

  // Exactly the blocks for plan.entries(layer) + extra_tokens entries in every layer. RESOURCE_EXHAUSTED says how many were
  // wanted and are free.
  absl::StatusOr<int64_t> Reserve(const KvPlan& plan, int64_t extra_tokens);
  // Copies slots [slot_begin, slot_begin + slot_count) of one KV head, [slot][head_dim], to every rank that holds the head.
  // Ignored for a handle that was freed.
  void Write(int64_t handle, int layer, bool is_value, int kv_head, int64_t slot_begin, int64_t slot_count,
             const std::byte* data);
  void Free(int64_t handle);

  // Blocks of a live sequence's layer, in order of entries. Valid until Free.
  const std::vector<int32_t>& blocks(int64_t handle, int layer) const;
  // Entries that the prompt left in a layer.
  int64_t prompt_entries(int64_t handle, int layer) const;

  void* k_blocks(int rank) const { return pools_[rank].k.data(); }  // [block][kv_count][block_size][head_dim]
  void* v_blocks(int rank) const { return pools_[rank].v.data(); }
  int block_size() const { return options_.block_size; }
  int64_t total_blocks() const { return options_.num_blocks; }
  int64_t free_blocks() const;

 private:
  struct Pool {
    HeadSplit heads;
    Buffer k, v;
  };
  struct Sequence {
    KvPlan plan;
    std::vector<std::vector<int32_t>> blocks;  // [layer]
  };
  explicit PagedKv(Options options) : options_(std::move(options)) {}
  std::shared_ptr<Sequence> Find(int64_t handle) const;
  void Zero(const Sequence& sequence);
  int64_t BlocksFor(int64_t entries) const { return (entries + options_.block_size - 1) / options_.block_size; }

  const Options options_;
  int64_t row_bytes_ = 0;  // one entry of one head
  std::vector<Pool> pools_;
  mutable std::mutex mutex_;
  std::vector<int32_t> free_;
  std::map<int64_t, std::shared_ptr<Sequence>> sequences_;
  int64_t next_handle_ = 1;
};

}  // namespace winnow
