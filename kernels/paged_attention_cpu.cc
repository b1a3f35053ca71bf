#include <algorithm>
#include <cstring>

#include "kernels/aligned_array.h"
#include "kernels/attention_unit.h"
#include "kernels/paged_attention.h"

namespace winnow {
namespace {

// Entries per step: their copies and panels (32 KiB with bf16 and head_dim 64) stay close to the
// core.
constexpr int kRun = 64;

// One thread's way through sequences and KV heads. Runs of entries are gathered, packed as in
// prefill, and serve all queries of the group: each is read once from the pool.
template <typename T, typename Packed>
class PagedUnit {
 public:
  PagedUnit(const PagedAttentionParams& p, const AttentionArch<T, Packed>& arch)
      : p_(p),
        arch_(arch),
        group_(p.q_heads / p.kv_heads),
        unit_(arch, p.head_dim, group_),
        k_(int64_t{kRun} * p.head_dim),
        v_(int64_t{kRun} * p.head_dim),
        keys_(int64_t{kRun} * RoundUp(p.head_dim, arch.pair)),
        values_(int64_t{kAttentionKeys} * RoundUp(p.head_dim, kAttentionPanel)) {}

  void Run(int64_t sequence, int kv_head) {
    const int64_t first_head = int64_t{kv_head} * group_;
    for (int g = 0; g < group_; ++g) {
      unit_.Start(
          g, static_cast<const T*>(p_.q) + sequence * p_.q_stride + (first_head + g) * p_.head_dim);
    }
    const int32_t length = p_.lengths[sequence];
    for (int32_t begin = 0; begin < length; begin += kRun) {
      const int count = std::min(kRun, length - begin);
      Gather(sequence, kv_head, begin, count);
      PackBlock(arch_, k_.data(), v_.data(), count, p_.head_dim, keys_.data(), values_.data());
      int valid[kAttentionTileRows];
      std::fill_n(valid, kAttentionTileRows, count);
      for (int g = 0; g < group_; g += kAttentionTileRows) {
        unit_.Add(g, std::min(kAttentionTileRows, group_ - g), valid, keys_.data(), values_.data());
      }
    }
    for (int g = 0; g < group_; ++g) {
      unit_.Store(g,
                  static_cast<T*>(p_.out) + (sequence * p_.q_heads + first_head + g) * p_.head_dim);
    }
  }

 private:
  void Gather(int64_t sequence, int kv_head, int32_t begin, int count) {
    const int32_t* blocks = p_.block_table + sequence * p_.table_stride;
    for (int done = 0; done < count;) {
      const int32_t slot = (begin + done) % p_.block_size;
      const int run = std::min(count - done, p_.block_size - slot);
      const int64_t block = blocks[(begin + done) / p_.block_size];
      const int64_t from = ((block * p_.kv_heads + kv_head) * p_.block_size + slot) * p_.head_dim;
      const int64_t to = int64_t{done} * p_.head_dim;
      const size_t bytes = static_cast<size_t>(run) * p_.head_dim * sizeof(T);
      std::memcpy(k_.data() + to, static_cast<const T*>(p_.k_blocks) + from, bytes);
      std::memcpy(v_.data() + to, static_cast<const T*>(p_.v_blocks) + from, bytes);
      done += run;
    }
  }

  const PagedAttentionParams& p_;
  const AttentionArch<T, Packed>& arch_;
  const int group_;
  AttentionUnit<T, Packed> unit_;
  AlignedArray<T> k_, v_;        // [kRun][head_dim]
  AlignedArray<Packed> keys_;    // AttentionTile::keys
  AlignedArray<Packed> values_;  // AttentionTile::values
};

}  // namespace

void PagedAttentionCpu(const PagedAttentionParams& p) {
  WithAttentionArch(p.dtype,
                    [&]<typename T, typename Packed>(const AttentionArch<T, Packed>& arch) {
#pragma omp parallel if (p.batch * p.kv_heads > 1)
                      {
                        PagedUnit<T, Packed> unit(p, arch);
#pragma omp for collapse(2) schedule(dynamic, 1)
                        for (int64_t b = 0; b < p.batch; ++b) {
                          for (int u = 0; u < p.kv_heads; ++u) unit.Run(b, u);
                        }
                      }
                    });
}

}  // namespace winnow
