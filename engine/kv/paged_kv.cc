#include "engine/kv/paged_kv.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace winnow {

absl::StatusOr<std::unique_ptr<PagedKv>> PagedKv::Create(Options options) {
  if (options.backends.empty() || options.block_size < 1 || options.block_size > kMaxBlockSize) {
    return absl::InvalidArgumentError(
        absl::StrCat("KV memory: needs a rank and 1 to ", kMaxBlockSize, " entries per block, got ",
                     options.backends.size(), " ranks and ", options.block_size, " entries"));
  }
  if (options.num_blocks < 1 || options.num_blocks > std::numeric_limits<int32_t>::max()) {
    return absl::InvalidArgumentError(
        absl::StrCat("KV memory: the number of blocks must be in [1, ",
                     std::numeric_limits<int32_t>::max(), "], got ", options.num_blocks));
  }
  auto kv = std::unique_ptr<PagedKv>(new PagedKv(std::move(options)));
  const Options& o = kv->options_;
  const auto ranks = static_cast<int>(o.backends.size());
  kv->row_bytes_ = int64_t{o.shape.head_dim} * ElementSize(o.backends[0]->types().kv);
  for (int rank = 0; rank < ranks; ++rank) {
    Pool pool;
    WINNOW_ASSIGN_OR_RETURN(pool.heads, SplitHeads(o.shape, ranks, rank));
    const int64_t bytes = o.num_blocks * pool.heads.kv_count * o.block_size * kv->row_bytes_;
    WINNOW_ASSIGN_OR_RETURN(pool.k, o.backends[rank]->Allocate(bytes));
    WINNOW_ASSIGN_OR_RETURN(pool.v, o.backends[rank]->Allocate(bytes));
    kv->pools_.push_back(std::move(pool));
    // Writes go beside the queue that the memory came from.
    const RealClock clock;
    WINNOW_RETURN_IF_ERROR(o.backends[rank]->Record()->Wait(clock, Deadline::Infinite()));
  }
  if (o.zero_freed && o.zero_in_background) kv->zeroer_ = std::make_unique<Executor>("kv-zero", 1);
  kv->free_.resize(o.num_blocks);
  std::iota(kv->free_.rbegin(), kv->free_.rend(), 0);  // block 0 goes out first
  return kv;
}

int64_t PagedKv::BlockBytes(const ModelShape& shape, int tensor_parallel, int block_size,
                            int element_bytes) {
  const int64_t heads_held =
      std::max(shape.num_kv_heads, tensor_parallel);  // shared heads are held several times
  return 2 * heads_held * block_size * shape.head_dim * element_bytes;
}

absl::Status PagedKv::CheckPlan(const KvPlan& plan, int64_t extra_tokens) const {
  const ModelShape& shape = options_.shape;
  const bool fits = plan.num_layers == shape.num_layers &&
                    plan.num_kv_heads == shape.num_kv_heads && plan.head_dim == shape.head_dim &&
                    extra_tokens >= 0;
  if (fits) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("KV memory: made for ", shape.num_layers, " layers of ", shape.num_kv_heads,
                   " KV heads x ", shape.head_dim, ", the plan is for ", plan.num_layers, " of ",
                   plan.num_kv_heads, " x ", plan.head_dim, " and ", extra_tokens, " tokens more"));
}

absl::StatusOr<int64_t> PagedKv::Reserve(const KvPlan& plan, int64_t extra_tokens) {
  WINNOW_RETURN_IF_ERROR(CheckPlan(plan, extra_tokens));
  auto sequence = std::make_shared<Sequence>();
  sequence->plan = plan;
  int64_t wanted = 0;
  for (int layer = 0; layer < plan.num_layers; ++layer)
    wanted += BlocksFor(plan.entries(layer) + extra_tokens);
  std::lock_guard<std::mutex> lock(mutex_);
  if (wanted > static_cast<int64_t>(free_.size())) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "KV memory: ", wanted, " blocks of ", options_.block_size, " entries are wanted, ",
        free_.size(), " of ", options_.num_blocks, " are free"));
  }
  for (int layer = 0; layer < plan.num_layers; ++layer) {
    const int64_t count = BlocksFor(plan.entries(layer) + extra_tokens);
    sequence->blocks.emplace_back(free_.rbegin(), free_.rbegin() + count);
    free_.resize(free_.size() - count);
  }
  const int64_t handle = next_handle_++;
  sequences_[handle] = std::move(sequence);
  return handle;
}

std::shared_ptr<const PagedKv::Sequence> PagedKv::Find(int64_t handle) const {
  std::lock_guard<std::mutex> lock(mutex_);
  auto it = sequences_.find(handle);
  return it == sequences_.end() ? nullptr : it->second;
}

void PagedKv::Write(int64_t handle, int layer, bool is_value, int kv_head, int64_t slot_begin,
                    int64_t slot_count, const std::byte* data) {
  const std::shared_ptr<const Sequence> sequence = Find(handle);
  if (sequence == nullptr) return;
  const std::vector<int32_t>& blocks = sequence->blocks[layer];
  const int block_size = options_.block_size;
  for (size_t rank = 0; rank < pools_.size(); ++rank) {
    const Pool& pool = pools_[rank];
    const int local = kv_head - pool.heads.kv_begin;
    if (local < 0 || local >= pool.heads.kv_count) continue;
    const Buffer& to = is_value ? pool.v : pool.k;
    for (int64_t slot = slot_begin; slot < slot_begin + slot_count;) {
      const int64_t in_block = slot % block_size;
      const int64_t left = slot_begin + slot_count - slot;
      const int64_t width = std::min<int64_t>(block_size - in_block, left);
      const int64_t index = slot / block_size;
      // Whole blocks that follow one another in the pool are one copy.
      int64_t rows = 1;
      while (width == block_size && (rows + 1) * block_size <= left &&
             blocks[index + rows] == blocks[index] + rows) {
        ++rows;
      }
      const int64_t row =
          (int64_t{blocks[index]} * pool.heads.kv_count + local) * block_size + in_block;
      options_.backends[rank]->WriteNow(to.at(row * row_bytes_),
                                        pool.heads.kv_count * block_size * row_bytes_,
                                        data + (slot - slot_begin) * row_bytes_,
                                        block_size * row_bytes_, width * row_bytes_, rows);
      slot += width * rows;
    }
  }
}

void PagedKv::Zero(const Sequence& sequence) {
  for (size_t rank = 0; rank < pools_.size(); ++rank) {
    const int64_t bytes = int64_t{pools_[rank].heads.kv_count} * options_.block_size * row_bytes_;
    for (const std::vector<int32_t>& blocks : sequence.blocks) {
      for (size_t i = 0; i < blocks.size();) {
        size_t run = 1;
        while (i + run < blocks.size() &&
               blocks[i + run] == blocks[i] + static_cast<int32_t>(run)) {
          ++run;
        }
        for (const Buffer* pool : {&pools_[rank].k, &pools_[rank].v}) {
          options_.backends[rank]->ZeroNow(pool->at(blocks[i] * bytes), run * bytes);
        }
        i += run;
      }
    }
  }
}

void PagedKv::Free(int64_t handle) {
  std::shared_ptr<const Sequence> sequence;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    auto it = sequences_.find(handle);
    if (it == sequences_.end()) return;
    sequence = std::move(it->second);
    sequences_.erase(it);
  }
  if (zeroer_ == nullptr) return GiveBack(*sequence);
  zeroer_->Add([this, sequence] { GiveBack(*sequence); });
}

void PagedKv::GiveBack(const Sequence& sequence) {
  if (options_.zero_freed) Zero(sequence);
  std::lock_guard<std::mutex> lock(mutex_);
  // The other way round, so that neighbours go out together again.
  for (auto blocks = sequence.blocks.rbegin(); blocks != sequence.blocks.rend(); ++blocks) {
    free_.insert(free_.end(), blocks->rbegin(), blocks->rend());
  }
}

int64_t PagedKv::free_blocks() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return static_cast<int64_t>(free_.size());
}

}  // namespace winnow
