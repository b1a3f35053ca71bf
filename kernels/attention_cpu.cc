#include "kernels/attention.h"
#include "kernels/attention_arch.h"
#include "kernels/attention_blocked.h"
#include "kernels/attention_unit.h"

namespace winnow {

bool CpuHasAvx512() {
  static const bool has = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  return has;
}

bool CpuHasAvx512Bf16() {
  static const bool has = CpuHasAvx512() && __builtin_cpu_supports("avx512bf16");
  return has;
}

// Single rows take the same way: even for one, packing its keys is twice as fast as dot products
// along the rows of K.
void AttentionCpu(const AttentionParams& p) {
  WithAttentionArch(p.dtype,
                    [&]<typename T, typename Packed>(const AttentionArch<T, Packed>& arch) {
                      BlockedAttention<T, Packed>(p, arch).Run();
                    });
}

}  // namespace winnow
