// The prefill worker: computes prompts, makes token 0, ships the KV.
#include <memory>
#include <string>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "common/fault.h"
#include "common/log.h"
#include "common/process.h"
#include "common/program_flags.h"
#include "common/server_flags.h"
#include "common/status_macros.h"
#include "engine/tensor_parallel_prefill.h"
#include "prefill_worker/grpc_kv_handoff_factory.h"
#include "prefill_worker/memory_plan.h"
#include "prefill_worker/prefill_metrics.h"
#include "prefill_worker/prefill_scheduler.h"
#include "prefill_worker/prefill_service.h"
#include "rpc/tls_flags.h"
#include "transfer/kv_chunk.h"
#include "wire/worker_info.h"
#include "worker/model_flags.h"
#include "worker/serve_worker.h"
#include "worker/worker_identity.h"

ABSL_FLAG(std::string, listen, "127.0.0.1:50061",
          "host:port of the gRPC server; port 0 takes any free one");
ABSL_FLAG(
    std::string, claa, "",
    "fields that stand above the model's claa.json, as it writes them: {\"keep_ppm\": 200000}");
ABSL_FLAG(int64_t, chunk_tokens, 0,
          "prompt rows computed in one step, over all requests; 0: 1024 on the CPU, 8192 on a GPU");
ABSL_FLAG(int, streams_per_rank, 4,
          "push streams, each on a connection of its own, per rank that sends");
ABSL_FLAG(int, max_queue, 256, "requests waiting and running; more are refused");
ABSL_FLAG(
    int64_t, max_queue_s, 60,
    "work ahead of a request, in seconds by the rate of the last steps; requests that would wait "
    "longer are refused, as are those that would miss their deadline");
ABSL_FLAG(bool, allow_explain, false, "answer requests for the kept positions");
ABSL_FLAG(bool, zero_freed_kv, true, "overwrite the memory that KV was sent from when it is freed");
ABSL_FLAG(int64_t, retain_mib, 1024,
          "memory for KV that could not be handed over, kept for a resend");
ABSL_FLAG(int64_t, step_timeout_s, 120,
          "a rank that is later than this in a collective fails the step");
ABSL_FLAG(int64_t, drain_timeout_s, 60, "time that running prefills get after SIGTERM");

namespace winnow {
namespace {

// Checks flag ranges that no component validates itself.
absl::Status CheckFlags() {
  WINNOW_RETURN_IF_ERROR(CheckFlagRange("chunk-tokens", absl::GetFlag(FLAGS_chunk_tokens), 0));
  WINNOW_RETURN_IF_ERROR(
      CheckFlagRange("streams-per-rank", absl::GetFlag(FLAGS_streams_per_rank), 1));
  const int64_t streams = int64_t{absl::GetFlag(FLAGS_tp)} * absl::GetFlag(FLAGS_streams_per_rank);
  if (streams > kMaxPushStreams) {
    return absl::InvalidArgumentError(absl::StrCat("--tp times --streams-per-rank must be at most ",
                                                   kMaxPushStreams, ", got ", streams));
  }
  WINNOW_RETURN_IF_ERROR(CheckFlagRange("max-queue", absl::GetFlag(FLAGS_max_queue), 1));
  WINNOW_RETURN_IF_ERROR(CheckFlagRange("max-queue-s", absl::GetFlag(FLAGS_max_queue_s), 1));
  WINNOW_RETURN_IF_ERROR(CheckFlagRange("retain-mib", absl::GetFlag(FLAGS_retain_mib), 0));
  WINNOW_RETURN_IF_ERROR(CheckFlagRange("step-timeout-s", absl::GetFlag(FLAGS_step_timeout_s), 1));
  return CheckFlagRange("drain-timeout-s", absl::GetFlag(FLAGS_drain_timeout_s), 0);
}

// Enough rows to keep the device busy, and no more: requests share a step's rows.
int64_t ChunkTokens(const ModelRanks& ranks) {
  if (const int64_t rows = absl::GetFlag(FLAGS_chunk_tokens); rows > 0) return rows;
  return ranks.backends[0]->name() == "cuda" ? 8192 : 1024;
}

// The model folder's profile with the fields of --claa above it.
absl::StatusOr<SelectionConfig> WithClaaFlag(const SelectionConfig& profile,
                                             const ModelShape& shape) {
  const std::string fields = absl::GetFlag(FLAGS_claa);
  if (fields.empty()) return profile;
  const absl::StatusOr<SelectionOverrides> overrides = ParseSelectionJson(fields);
  if (overrides.ok()) return ResolveSelectionConfig(profile, *overrides, shape);
  return absl::InvalidArgumentError(
      absl::StrCat("--claa, read as a claa.json: ", std::string(overrides.status().message())));
}

TensorParallelPrefill::Options EngineOptions(ModelRanks& ranks, const Clock& clock) {
  TensorParallelPrefill::Options options{
      .clock = &clock,
      .max_step_rows = ChunkTokens(ranks),
      .max_context = absl::GetFlag(FLAGS_max_model_len),
      .step_timeout = absl::Seconds(absl::GetFlag(FLAGS_step_timeout_s)),
      .zero_freed_staging = absl::GetFlag(FLAGS_zero_freed_kv)};
  options.parts = ranks.parts();
  return options;
}

absl::StatusOr<WorkerIdentity> MakeIdentity(const ModelRanks::Options& load,
                                            const ModelRanks& ranks, const ModelShape& shape) {
  WINNOW_ASSIGN_OR_RETURN(WorkerIdentity identity,
                          MakeWorkerIdentity(v1::WORKER_ROLE_PREFILL, load, ranks, shape));
  identity.explain_allowed = absl::GetFlag(FLAGS_allow_explain);
  WINNOW_ASSIGN_OR_RETURN(identity.profile, WithClaaFlag(identity.profile, ranks.config.shape));
  return identity;
}

// Builds the worker on its engine and serves until it is told to stop.
absl::Status Serve(const WorkerIdentity& identity, PrefillEngine& engine, const ModelRanks& ranks,
                   MetricsRegistry& registry, PrefillMetrics& metrics, const Clock& clock) {
  GrpcKvHandoffFactory handoffs(
      {.incarnation = identity.incarnation,
       .layout_digest = identity.layout_digest,
       .tensor_parallel = identity.tensor_parallel,
       .streams_per_rank = absl::GetFlag(FLAGS_streams_per_rank),
       .event_timeout = absl::Seconds(absl::GetFlag(FLAGS_step_timeout_s)),
       .tls = TlsFilesOfFlags(),
       .clock = &clock});
  PrefillScheduler scheduler(
      engine, handoffs, clock, metrics,
      {.admission = {.max_jobs = absl::GetFlag(FLAGS_max_queue),
                     .max_queue_time = absl::Seconds(absl::GetFlag(FLAGS_max_queue_s))},
       .retained = {.max_bytes = absl::GetFlag(FLAGS_retain_mib) << 20}});
  PrefillService service(scheduler, clock,
                         {.info = ToProto(identity),
                          .shape = engine.shape(),
                          .allow_explain = identity.explain_allowed});
  return ServeWorker({.identity = identity,
                      .listen = absl::GetFlag(FLAGS_listen),
                      .services = {&service},
                      .metrics =
                          [&] {
                            metrics.Refresh(scheduler);
                            return registry.Serialize();
                          },
                      .check =
                          [&] {
                            const absl::Status fault = FailAt("prefill.device");
                            return fault.ok() ? ranks.Health() : fault;
                          },
                      .refuse_new = [&] { scheduler.Drain(); },
                      .num_running = [&] { return scheduler.num_jobs(); },
                      .drain_timeout = absl::Seconds(absl::GetFlag(FLAGS_drain_timeout_s))},
                     clock);
}

absl::Status Run() {
  RealClock clock;
  WINNOW_RETURN_IF_ERROR(CheckFlags());
  MetricsRegistry registry("prefill");
  ExportBuildInfo(registry);
  PrefillMetrics metrics(registry, absl::GetFlag(FLAGS_tp));
  WINNOW_ASSIGN_OR_RETURN(
      const ModelRanks::Options load,
      ModelOptionsOfFlags(clock, [&](const absl::Status& s) { metrics.OnNcclAbort(s); }));
  WINNOW_ASSIGN_OR_RETURN(const std::unique_ptr<ModelRanks> ranks, LoadModelRanks(load));
  WINNOW_ASSIGN_OR_RETURN(const std::unique_ptr<TensorParallelPrefill> engine,
                          TensorParallelPrefill::Create(EngineOptions(*ranks, clock)));
  WINNOW_ASSIGN_OR_RETURN(const WorkerIdentity identity,
                          MakeIdentity(load, *ranks, engine->shape()));
  const std::string profile = SelectionConfigToJson(identity.profile);
  spdlog::info("selection profile: {}", profile);
  LogMemoryPlan(*engine, identity.profile);
  ExportModelInfo(registry, identity.layout_digest, profile);
  return Serve(identity, *engine, *ranks, registry, metrics, clock);
}

}  // namespace
}  // namespace winnow

int main(int argc, char** argv) {
  winnow::StartServerProgram(
      argc, argv, "prefill",
      "Winnow's prefill worker: computes prompts with CLAA on one tensor-parallel group and ships "
      "their KV.\n"
      "  winnow-prefill-worker --model DIR [--listen HOST:PORT] [--tp T]",
      {{"Prefill worker", "prefill_worker/"},
       {"Model and device", "worker/model_flags.cc"},
       {"Registration with routers", "worker/registration_flags.cc"},
       {"TLS", "rpc/tls_flags.cc"}});
  winnow::KeepFreedMemory();
  return winnow::ExitCode(winnow::Run());
}
