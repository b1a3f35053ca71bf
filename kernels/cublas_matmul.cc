#include "kernels/cublas_matmul.h"

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstring>

namespace winnow {
namespace {

static_assert(sizeof(CublasAlgorithm) == sizeof(cublasLtMatmulAlgo_t));
constexpr size_t kWorkspaceBytes = 32 << 20;  // what NVIDIA advises for Hopper

cudaDataType_t TypeOf(DType dtype) { return dtype == DType::kF32 ? CUDA_R_32F : CUDA_R_16BF; }

std::string Text(const char* what, cublasStatus_t status) {
  return std::string("cuBLASLt: ") + what + ": " + cublasLtGetStatusString(status);
}

}  // namespace

// In cuBLASLt's column-major words: Dᵀ [out][rows] = W [out][in] · Xᵀ [in][rows], where a row-major
// matrix is its own transpose.
struct CublasMatmul::Plan {
  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t weight = nullptr, x = nullptr, out = nullptr;
  cublasLtMatmulAlgo_t algorithm;

  ~Plan() {
    if (operation != nullptr) cublasLtMatmulDescDestroy(operation);
    for (const auto layout : {weight, x, out}) {
      if (layout != nullptr) cublasLtMatrixLayoutDestroy(layout);
    }
  }
};

CublasMatmul::CublasMatmul(std::string* error) {
  cublasLtHandle_t handle = nullptr;
  if (const auto status = cublasLtCreate(&handle); status != CUBLAS_STATUS_SUCCESS) {
    *error = Text("create", status);
    return;
  }
  handle_ = handle;
  int device = 0;
  cudaDeviceProp properties = {};
  if (cudaGetDevice(&device) == cudaSuccess &&
      cudaGetDeviceProperties(&properties, device) == cudaSuccess) {
    gpu_ = properties.name;
    std::replace(gpu_.begin(), gpu_.end(), ' ', '_');
  }
  if (cudaMalloc(&workspace_, kWorkspaceBytes) != cudaSuccess) {
    *error = "cuBLASLt: no memory for its workspace";
  }
}

CublasMatmul::~CublasMatmul() {
  plans_.clear();
  if (handle_ != nullptr) cublasLtDestroy(static_cast<cublasLtHandle_t>(handle_));
  cudaFree(workspace_);
}

std::string CublasMatmul::Describe(const MatmulWeight& w, const MatmulParams& p, Plan& plan) const {
  const cudaDataType_t type = TypeOf(w.dtype), out_type = TypeOf(p.out_dtype);
  if (const auto status = cublasLtMatmulDescCreate(&plan.operation, CUBLAS_COMPUTE_32F, CUDA_R_32F);
      status != CUBLAS_STATUS_SUCCESS) {
    return Text("describe", status);
  }
  const cublasOperation_t transpose = CUBLAS_OP_T;
  cublasLtMatmulDescSetAttribute(plan.operation, CUBLASLT_MATMUL_DESC_TRANSA, &transpose,
                                 sizeof(transpose));
  if (p.bias != nullptr) {
    const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    cublasLtMatmulDescSetAttribute(plan.operation, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue,
                                   sizeof(epilogue));
    cublasLtMatmulDescSetAttribute(plan.operation, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &type,
                                   sizeof(type));
    cublasLtMatmulDescSetAttribute(plan.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p.bias,
                                   sizeof(p.bias));
  }
  cublasLtMatrixLayoutCreate(&plan.weight, type, w.in_features, w.out_features, w.in_features);
  cublasLtMatrixLayoutCreate(&plan.x, type, w.in_features, p.rows, p.x_stride);
  cublasLtMatrixLayoutCreate(&plan.out, out_type, w.out_features, p.rows, w.out_features);

  return "";
}

std::vector<CublasAlgorithm> CublasMatmul::Ask(const MatmulWeight& w, const MatmulParams& p,
                                               const Plan& plan, int count) const {
  cublasLtMatmulPreference_t preference = nullptr;
  cublasLtMatmulPreferenceCreate(&preference);
  cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                       &kWorkspaceBytes, sizeof(kWorkspaceBytes));
  const auto alignment = [](const void* pointer) {
    const auto address = reinterpret_cast<uintptr_t>(pointer);
    return static_cast<uint32_t>(address % 256 == 0 ? 256 : address & -address);
  };
  const uint32_t of_weight = alignment(w.data), of_x = alignment(p.x), of_out = alignment(p.out);
  for (const auto& [attribute, bytes] :
       {std::pair{CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, of_weight},
        std::pair{CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, of_x},
        std::pair{CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, of_out},
        std::pair{CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, of_out}}) {
    cublasLtMatmulPreferenceSetAttribute(preference, attribute, &bytes, sizeof(bytes));
  }
  std::vector<cublasLtMatmulHeuristicResult_t> results(count);
  int found = 0;
  const auto status = cublasLtMatmulAlgoGetHeuristic(
      static_cast<cublasLtHandle_t>(handle_), plan.operation, plan.weight, plan.x, plan.out,
      plan.out, preference, count, results.data(), &found);
  cublasLtMatmulPreferenceDestroy(preference);
  std::vector<CublasAlgorithm> algorithms;
  if (status != CUBLAS_STATUS_SUCCESS) return algorithms;
  for (int i = 0; i < found; ++i) {
    if (results[i].state != CUBLAS_STATUS_SUCCESS) continue;
    std::memcpy(&algorithms.emplace_back(), &results[i].algo, sizeof(CublasAlgorithm));
  }
  return algorithms;
}

// The entry was tuned for other rows: whether it fits these, cuBLASLt says.
bool CublasMatmul::ChooseFromTable(const MatmulWeight& w, const MatmulParams& p, Plan& plan) const {
  const CublasAlgorithm* algorithm = CublasAlgorithmTable::BuiltIn().Find(
      gpu_, Version(), {w.dtype, p.out_dtype, p.accumulate, p.rows, w.out_features, w.in_features});
  if (algorithm == nullptr) return false;
  std::memcpy(&plan.algorithm, algorithm, sizeof(plan.algorithm));
  cublasLtMatmulHeuristicResult_t result = {};
  const auto status =
      cublasLtMatmulAlgoCheck(static_cast<cublasLtHandle_t>(handle_), plan.operation, plan.weight,
                              plan.x, plan.out, plan.out, &plan.algorithm, &result);
  return status == CUBLAS_STATUS_SUCCESS && result.state == CUBLAS_STATUS_SUCCESS &&
         result.workspaceSize <= kWorkspaceBytes;
}

std::string CublasMatmul::Choose(const MatmulWeight& w, const MatmulParams& p, Plan& plan) const {
  if (ChooseFromTable(w, p, plan)) return "";
  const std::vector<CublasAlgorithm> algorithms = Ask(w, p, plan, 1);
  if (algorithms.empty()) {
    return "cuBLASLt: no algorithm for " + std::to_string(p.rows) + " rows x " +
           std::to_string(w.out_features) + " x " + std::to_string(w.in_features);
  }
  std::memcpy(&plan.algorithm, &algorithms[0], sizeof(plan.algorithm));
  return "";
}

std::vector<CublasAlgorithm> CublasMatmul::Candidates(const MatmulWeight& w, const MatmulParams& p,
                                                      int count) {
  Plan plan;
  if (!Describe(w, p, plan).empty()) return {};
  return Ask(w, p, plan, count);
}

uint64_t CublasMatmul::Version() { return cublasLtGetVersion(); }

std::string CublasMatmul::Run(const MatmulWeight& w, const MatmulParams& p, CudaStream stream) {
  if (p.rows == 0) return "";
  const Key key{w.dtype, p.out_dtype,    p.bias != nullptr, p.accumulate,
                p.rows,  w.out_features, w.in_features,     p.x_stride};
  std::unique_ptr<Plan>& plan = plans_[key];
  if (plan == nullptr) {
    plan = std::make_unique<Plan>();
    std::string error = Describe(w, p, *plan);
    if (error.empty()) error = Choose(w, p, *plan);
    if (!error.empty()) {
      plan.reset();
      return error;
    }
  }
  return Launch(w, p, *plan, stream);
}

std::string CublasMatmul::Run(const MatmulWeight& w, const MatmulParams& p,
                              const CublasAlgorithm& algorithm, CudaStream stream) {
  Plan plan;
  if (std::string error = Describe(w, p, plan); !error.empty()) return error;
  std::memcpy(&plan.algorithm, &algorithm, sizeof(plan.algorithm));
  return Launch(w, p, plan, stream);
}

std::string CublasMatmul::Launch(const MatmulWeight& w, const MatmulParams& p, Plan& plan,
                                 CudaStream stream) {
  if (p.bias != nullptr) {
    cublasLtMatmulDescSetAttribute(plan.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p.bias,
                                   sizeof(p.bias));
  }
  const float one = 1.0f, old = p.accumulate ? 1.0f : 0.0f;
  const auto status =
      cublasLtMatmul(static_cast<cublasLtHandle_t>(handle_), plan.operation, &one, w.data,
                     plan.weight, p.x, plan.x, &old, p.out, plan.out, p.out, plan.out,
                     &plan.algorithm, workspace_, kWorkspaceBytes, stream);
  return status == CUBLAS_STATUS_SUCCESS ? "" : Text("matmul", status);
}

}  // namespace winnow
