#include "engine/ranks/choose_device.h"

#include "absl/strings/str_cat.h"
#include "common/log.h"
#include "common/status_macros.h"
#include "kernels/matmul.h"
#ifdef WINNOW_CUDA
#include "engine/device/cuda_backend.h"
#include "engine/ranks/cuda_ranks.h"
#endif

namespace winnow {
namespace {

#ifdef WINNOW_CUDA
int NumGpus() { return NumCudaDevices(); }
#else
int NumGpus() { return 0; }
absl::Status UseCuda(ModelRanks::Options&) {
  return absl::UnimplementedError("--device cuda: this program was built without CUDA; use cpu");
}
#endif

absl::StatusOr<DType> ChooseDType(const std::string& name, bool on_gpu) {
  const bool has_bf16 = on_gpu || CpuHasBf16();
  if (name == "auto") return has_bf16 ? DType::kBf16 : DType::kF32;
  if (name == "f32") return DType::kF32;
  if (name != "bf16") {
    return absl::InvalidArgumentError(
        absl::StrCat("--dtype must be auto, f32 or bf16, got '", name, "'"));
  }
  if (!has_bf16) {
    return absl::FailedPreconditionError(
        "--dtype bf16: this processor has no bf16 instructions (avx512_bf16 or AMX); use f32 or "
        "auto");
  }
  return DType::kBf16;
}

}  // namespace

absl::Status ChooseDevice(const std::string& device, const std::string& dtype,
                          ModelRanks::Options& options) {
  if (device != "auto" && device != "cpu" && device != "cuda") {
    return absl::InvalidArgumentError(
        absl::StrCat("--device must be auto, cpu or cuda, got '", device, "'"));
  }
  const bool on_gpu =
      device == "cuda" || (device == "auto" && NumGpus() >= options.tensor_parallel);
  WINNOW_ASSIGN_OR_RETURN(const DType chosen, ChooseDType(dtype, on_gpu));
  options.types = chosen;
  if (on_gpu) WINNOW_RETURN_IF_ERROR(UseCuda(options));
  spdlog::info("device: {}, {}", on_gpu ? "cuda" : "cpu", DTypeName(chosen));
  return absl::OkStatus();
}

}  // namespace winnow
