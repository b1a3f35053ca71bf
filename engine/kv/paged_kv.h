#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "absl/status/statusor.h"
#include "common/executor.h"
#include "engine/device/backend.h"
#include "plan/head_split.h"
#include "plan/kv_plan.h"
#include "plan/model_shape.h"

namespace winnow {

// The decode worker's KV memory: blocks of block_size entries, any block for any layer, so that
// layers of different lengths waste at most one block each. One allocator decides for all ranks;
// each rank's pool holds its own KV heads. Thread-safe. Write and Free of one handle, and the steps
// that decode it, must not run beside each other: its reservation, then its scheduler, sees to
// that. Different handles never share a block.
class PagedKv {
 public:
  struct Options {
    ModelShape shape;
    std::vector<Backend*> backends;  // by rank; must outlive it
    int block_size = 16;
    int64_t num_blocks = 0;
    bool zero_freed = true;  // KV is prompt text: overwrite it when its sequence ends
    // Zero on a thread of its own, so that Free does not wait. The blocks are free a little later.
    bool zero_in_background = false;
  };
  // A live sequence. Never changes, so that it can be read without a lock.
  struct Sequence {
    KvPlan plan;                               // entries(layer): what the prompt left there
    std::vector<std::vector<int32_t>> blocks;  // [layer]: block ids in order of entries
  };
  // RESOURCE_EXHAUSTED: the pools do not fit. INVALID_ARGUMENT: not even one block, or more than
  // int32 counts.
  static absl::StatusOr<std::unique_ptr<PagedKv>> Create(Options options);

  // Bytes of one block over all ranks, K and V.
  static int64_t BlockBytes(const ModelShape& shape, int tensor_parallel, int block_size,
                            int element_bytes);

  // Exactly the blocks for plan.entries(layer) + extra_tokens entries in every layer.
  // RESOURCE_EXHAUSTED says how many were wanted and are free. INVALID_ARGUMENT: a plan for another
  // shape.
  absl::StatusOr<int64_t> Reserve(const KvPlan& plan, int64_t extra_tokens);
  // Copies slots [slot_begin, slot_begin + slot_count) of one KV head, [slot][head_dim], to every
  // rank that holds the head. Ignored for a handle that was freed. REQUIRES: within what was
  // reserved.
  void Write(int64_t handle, int layer, bool is_value, int kv_head, int64_t slot_begin,
             int64_t slot_count, const std::byte* data);
  void Free(int64_t handle);

  // Null for a handle that is not live.
  std::shared_ptr<const Sequence> Find(int64_t handle) const;

  void* k_blocks(int rank) const {
    return pools_[rank].k.data();
  }  // [block][kv_count][block_size][head_dim]
  void* v_blocks(int rank) const { return pools_[rank].v.data(); }
  int block_size() const { return options_.block_size; }
  int64_t total_blocks() const { return options_.num_blocks; }
  int64_t free_blocks() const;

 private:
  struct Pool {
    HeadSplit heads;
    Buffer k, v;
  };
  // Offsets within a block stay far below int64's end, and a slot within int32's.
  static constexpr int kMaxBlockSize = 1024;

  explicit PagedKv(Options options) : options_(std::move(options)) {}
  absl::Status CheckPlan(const KvPlan& plan, int64_t extra_tokens) const;
  void Zero(const Sequence& sequence);
  // The blocks of a freed sequence, zeroed where that is asked for.
  void GiveBack(const Sequence& sequence);
  int64_t BlocksFor(int64_t entries) const {
    return (entries + options_.block_size - 1) / options_.block_size;
  }

  const Options options_;
  int64_t row_bytes_ = 0;  // one entry of one head
  std::vector<Pool> pools_;
  mutable std::mutex mutex_;   // guards all below
  std::vector<int32_t> free_;  // the last one goes out next
  std::map<int64_t, std::shared_ptr<const Sequence>> sequences_;
  int64_t next_handle_ = 1;
  std::unique_ptr<Executor> zeroer_;  // null: none; joined before anything else goes
};

}  // namespace winnow
