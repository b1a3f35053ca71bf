#include "engine/device/backend.h"

namespace winnow {

void Backend::MatmulRope(const PackedWeight& weight, const MatmulParams& params,
                         const RopeParams& rope) {
  Matmul(weight, params);
  Rope(rope);
}

void Backend::MatmulStoreKv(const PackedWeight& weight, const MatmulParams& params,
                            const StoreKvParams& store) {
  Matmul(weight, params);
  StoreKv(store);
}

void Backend::GatedMatmul(const PackedWeight& weight, const GatedMatmulParams& params,
                          void* workspace) {
  Matmul(weight, {.x = params.x,
                  .out = workspace,
                  .rows = params.rows,
                  .x_stride = params.x_stride,
                  .out_dtype = dtype()});
  GatedAct({.gate_up = workspace,
            .out = params.out,
            .dtype = dtype(),
            .rows = params.rows,
            .width = weight.out_features() / 2});
}

int64_t Backend::WorkspaceBytes(const PackedWeight& weight, const GatedMatmulParams& params) const {
  return params.rows * weight.out_features() * ElementSize(dtype());
}

}  // namespace winnow
