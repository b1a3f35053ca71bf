#include "worker/model_flags.h"

#include <string>
#include <utility>

#include "absl/flags/flag.h"
#include "common/program_flags.h"
#include "common/status_macros.h"
#include "engine/ranks/choose_device.h"

ABSL_FLAG(std::string, model, "",
          "folder with a Hugging Face model, and claa.json if it has a profile (required)");
ABSL_FLAG(bool, random_weights, false,
          "make the weights up, to measure speed; of --model only the configuration is read");
ABSL_FLAG(std::string, device, "auto", "auto (a GPU for every rank if there is), cpu or cuda");
ABSL_FLAG(std::string, dtype, "auto", "auto, f32 or bf16, of weights, activations and KV");
ABSL_FLAG(int, tp, 1, "tensor-parallel ranks");
ABSL_FLAG(int, threads_per_rank, 0, "threads of a rank; 0: the cores shared among the ranks");
ABSL_FLAG(int64_t, max_model_len, 0,
          "prompt + generated tokens at most; 0: the model's own context");

namespace winnow {

absl::StatusOr<ModelRanks::Options> ModelOptionsOfFlags(
    const Clock& clock, std::function<void(const absl::Status& reason)> on_nccl_abort) {
  if (absl::GetFlag(FLAGS_model).empty()) return absl::InvalidArgumentError("--model is required");
  WINNOW_RETURN_IF_ERROR(
      CheckFlagRange("threads-per-rank", absl::GetFlag(FLAGS_threads_per_rank), 0));
  WINNOW_RETURN_IF_ERROR(CheckFlagRange("max-model-len", absl::GetFlag(FLAGS_max_model_len), 0));
  ModelRanks::Options options{.model_dir = absl::GetFlag(FLAGS_model),
                              .tensor_parallel = absl::GetFlag(FLAGS_tp),
                              .threads_per_rank = absl::GetFlag(FLAGS_threads_per_rank),
                              .clock = &clock,
                              .log_progress = true,
                              .on_nccl_abort = std::move(on_nccl_abort),
                              .random_weights = absl::GetFlag(FLAGS_random_weights)};
  WINNOW_RETURN_IF_ERROR(
      ChooseDevice(absl::GetFlag(FLAGS_device), absl::GetFlag(FLAGS_dtype), options));
  return options;
}

}  // namespace winnow
