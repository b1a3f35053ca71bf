#pragma once

#include <cstring>
#include <vector>

#include "kernels/attention_sm80.h"
#include "kernels/attention_sm90.h"

namespace winnow {

// The attention kernels that a program can ask for by name, for checks and benchmarks.
struct AttentionKernel {
  const char* name;
  int arch;  // kernels of one give the same bits
  bool (*supports)(const AttentionParams& p);
  void (*run)(const AttentionParams& p, CudaStream stream);
};

template <int kBlockRows>
void RunAttentionSm80(const AttentionParams& p, CudaStream stream) {
  AttentionSm80(p, stream, kBlockRows);
}

// Those whose names begin with `prefix` and that a GPU of compute capability `major`.x runs.
inline std::vector<AttentionKernel> AttentionKernels(const char* prefix, int major) {
  std::vector<AttentionKernel> kernels;
  for (const AttentionKernel& kernel : {
           AttentionKernel{"sm80", 80, AttentionSm80Supports, RunAttentionSm80<0>},
           AttentionKernel{"sm80_64", 80, AttentionSm80Supports, RunAttentionSm80<64>},
           AttentionKernel{"sm80_128", 80, AttentionSm80Supports, RunAttentionSm80<128>},
           AttentionKernel{"sm90", 90, AttentionSm90Supports, AttentionSm90},
       }) {
    const bool runs = kernel.arch == 90 ? major == 9 : major >= 8;
    if (runs && std::strncmp(kernel.name, prefix, std::strlen(prefix)) == 0) {
      kernels.push_back(kernel);
    }
  }
  return kernels;
}

}  // namespace winnow
