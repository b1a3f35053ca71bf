#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/cublas_algorithms.h"
#include "kernels/matmul.h"

namespace winnow {

// Matmuls by cuBLASLt on one device: accumulated in fp32, without TF32. One rank's thread uses it.
// The algorithm for a shape is the table's, or else cuBLASLt's first choice, and stays.
class CublasMatmul {
 public:
  // On the current device. `error` gets the text of what failed, if anything did.
  explicit CublasMatmul(std::string* error);
  ~CublasMatmul();
  CublasMatmul(const CublasMatmul&) = delete;
  CublasMatmul& operator=(const CublasMatmul&) = delete;

  // cuBLASLt's first choices for such a product, best first; to be tried by Run.
  std::vector<CublasAlgorithm> Candidates(const MatmulWeight& w, const MatmulParams& p, int count);
  // Version of the library and name of the device, as the table has them.
  static uint64_t Version();
  const std::string& gpu() const { return gpu_; }

  // Enqueues; `w` and `p` point to device memory. Empty, or the text of an error.
  std::string Run(const MatmulWeight& w, const MatmulParams& p, CudaStream stream);
  // The same by this algorithm.
  std::string Run(const MatmulWeight& w, const MatmulParams& p, const CublasAlgorithm& algorithm,
                  CudaStream stream);

 private:
  struct Plan;
  // Weight's type, out's type, has bias, accumulates, rows, out_features, in_features, x_stride.
  using Key = std::tuple<DType, DType, bool, bool, int64_t, int64_t, int64_t, int64_t>;
  std::string Describe(const MatmulWeight& w, const MatmulParams& p, Plan& plan) const;
  std::string Choose(const MatmulWeight& w, const MatmulParams& p, Plan& plan) const;
  bool ChooseFromTable(const MatmulWeight& w, const MatmulParams& p, Plan& plan) const;
  std::vector<CublasAlgorithm> Ask(const MatmulWeight& w, const MatmulParams& p, const Plan& plan,
                                   int count) const;
  std::string Launch(const MatmulWeight& w, const MatmulParams& p, Plan& plan, CudaStream stream);

  std::string gpu_;
  void* handle_ = nullptr;  // cublasLtHandle_t
  void* workspace_ = nullptr;
  std::map<Key, std::unique_ptr<Plan>> plans_;
};

}  // namespace winnow
