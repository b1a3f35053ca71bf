#pragma once

// Host side of the bulk tensor copies of sm90_ptx.cuh.

#include <cuda.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/sm90_ptx.cuh"
#include "kernels/types.h"

namespace winnow {

// bf16 [n2][n1][n0], n1 and n2 `stride1` and `stride2` elements apart, in boxes of
// [box2][box1][64]; what lies outside reads as 0 and is not written. False without a driver that
// can, or when CUDA refuses it.
inline bool MakeTensorMap(CUtensorMap* map, const void* base, const int64_t (&n)[3],
                          int64_t stride1, int64_t stride2, int box1, int box2) {
  void* encode = nullptr;
  cudaDriverEntryPointQueryResult found;
  if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &encode, 12000, cudaEnableDefault,
                                       &found) != cudaSuccess ||
      found != cudaDriverEntryPointSuccess) {
    return false;
  }
  const cuuint64_t sizes[3] = {static_cast<cuuint64_t>(n[0]), static_cast<cuuint64_t>(n[1]),
                               static_cast<cuuint64_t>(n[2])};
  const cuuint64_t strides[2] = {static_cast<cuuint64_t>(stride1) * 2,
                                 static_cast<cuuint64_t>(stride2) * 2};
  const cuuint32_t box[3] = {sm90::kChunk, static_cast<cuuint32_t>(box1),
                             static_cast<cuuint32_t>(box2)};
  const cuuint32_t steps[3] = {1, 1, 1};
  return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(encode)(
             map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3, const_cast<void*>(base), sizes, strides, box,
             steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

static __global__ void Refused() {}
// A launch of nothing: leaves cudaErrorInvalidConfiguration as the last error.
inline void RefuseLaunch(CudaStream stream) { Refused<<<0, 1, 0, stream>>>(); }

}  // namespace winnow
