#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <tuple>

#include "kernels/matmul.h"

namespace winnow {

// Matmuls by cuBLASLt on one device: accumulated in fp32, without TF32. One rank's thread uses it.
// The algorithm for a shape is cuBLASLt's first choice and stays.
class CublasMatmul {
 public:
  // On the current device. `error` gets the text of what failed, if anything did.
  explicit CublasMatmul(std::string* error);
  ~CublasMatmul();
  CublasMatmul(const CublasMatmul&) = delete;
  CublasMatmul& operator=(const CublasMatmul&) = delete;

  // Enqueues; `w` and `p` point to device memory. Empty, or the text of an error.
  std::string Run(const MatmulWeight& w, const MatmulParams& p, CudaStream stream);

 private:
  struct Plan;
  // Weight's type, out's type, has bias, rows, out_features, in_features, x_stride.
  using Key = std::tuple<DType, DType, bool, int64_t, int64_t, int64_t, int64_t>;
  std::string MakePlan(const MatmulWeight& w, const MatmulParams& p, Plan& plan) const;

  void* handle_ = nullptr;  // cublasLtHandle_t
  void* workspace_ = nullptr;
  std::map<Key, std::unique_ptr<Plan>> plans_;
};

}  // namespace winnow
