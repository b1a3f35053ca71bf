#pragma once

#include "kernels/types.h"

namespace winnow {

// The inner loops of blocked attention, once per instruction set; attention_blocked.h drives them.
// Files compiled for wide instructions hold nothing but these: an inline function of the standard
// library emitted there might be the copy that the linker keeps for the whole program, which would
// then fail on smaller processors.

constexpr int kAttentionPanel = 64;  // columns of a packed panel: four vectors of 16 floats
constexpr int kAttentionKeys =
    256;  // keys per block: their packed K and V stay in L2 while a unit's rows pass
constexpr int kAttentionTileRows =
    6;  // 6 × 4 sums, four panel vectors and a broadcast fill 29 of 32 registers
constexpr int kAttentionLanes = 16;  // partial sums of a row's softmax denominator

// The running maximum may stay behind the true one by this much (log2), so that it rarely moves:
// weights then reach 2^8 instead of 1, which costs floating point nothing.
constexpr float kAttentionSlack = 8.0f;
// Log2 weight of a masked key, and the running maximum before any key. Finite, so that differences
// are never NaN.
constexpr float kAttentionMasked = -1e30f;

// Up to kAttentionTileRows (row, head) pairs of one KV head against one block of keys.
template <typename Packed>
struct AttentionTile {
  const Packed* queries = nullptr;  // [rows][depth]
  const Packed* keys = nullptr;     // [kAttentionKeys / panel][depth / pair][panel][pair]
  const Packed* values = nullptr;   // [columns / panel][kAttentionKeys / pair][panel][pair]
  const int* valid =
      nullptr;  // [rows]: keys of the block that the row sees; not decreasing, the last ≥ 1
  float* out = nullptr;       // [rows][columns], unnormalised, in and out
  float* highest = nullptr;   // [rows], running maximum of scale·score, in and out
  float* sums = nullptr;      // [rows][kAttentionLanes], running denominators, in and out
  float* scores = nullptr;    // [rows][kAttentionKeys], scratch
  Packed* weights = nullptr;  // [rows][kAttentionKeys], scratch
  int rows = 0;
  int depth = 0;    // head_dim rounded up to `pair`
  int columns = 0;  // head_dim rounded up to the panel
  int head_dim = 0;
  float scale = 0;  // 1/√head_dim · log2 e
};

// Element is what memory holds, Packed what panels hold; a panel interleaves `pair` depth elements.
// All pointers that are not Element* are aligned to 64 bytes.
template <typename Element, typename Packed>
struct AttentionArch {
  int pair;
  // `count` ≤ panel keys [count][head_dim] → one panel [depth / pair][panel][pair], the rest zero.
  void (*pack_keys)(const Element* k, int count, int head_dim, Packed* out);
  // `count` ≤ kAttentionKeys values [count][head_dim] → a block of panels (AttentionTile::values),
  // zero up to a whole pair; what lies beyond is not touched, and not read.
  void (*pack_values)(const Element* v, int count, int head_dim, Packed* out);
  // A query [head_dim] → [depth].
  void (*pack_query)(const Element* q, int head_dim, Packed* out);
  // out[c] = sum[c] · factor, c < head_dim.
  void (*store_row)(const float* sum, float factor, int head_dim, Element* out);
  // scores[r][0..panel) = queries[r][depth] · panel, r < rows ≤ kAttentionTileRows.
  void (*multiply)(const Packed* queries, int rows, int depth, const Packed* panel, float* scores,
                   int64_t stride);
  // One step of the running softmax: out, highest and sums take the block in.
  void (*attend)(const AttentionTile<Packed>& tile);
};

extern const AttentionArch<float, float> kAttentionPortableF32;
extern const AttentionArch<Bf16, float> kAttentionPortableBf16;
extern const AttentionArch<float, float> kAttentionAvx512F32;  // needs CpuHasAvx512()
extern const AttentionArch<Bf16, Bf16> kAttentionAvx512Bf16;   // needs CpuHasAvx512Bf16()

bool CpuHasAvx512();      // F, BW, DQ, VL
bool CpuHasAvx512Bf16();  // and BF16

}  // namespace winnow
