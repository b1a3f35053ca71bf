// The decode worker: receives KV, decodes, streams tokens.
#include <memory>

#include "absl/flags/flag.h"
#include "common/fault.h"
#include "common/process.h"
#include "common/program_flags.h"
#include "common/server_flags.h"
#include "common/status_macros.h"
#include "decode_worker/decode_core.h"
#include "decode_worker/decode_metrics.h"
#include "decode_worker/decode_service.h"
#include "decode_worker/kv_memory.h"
#include "decode_worker/kv_transfer_service.h"
#include "decode_worker/paged_kv_target.h"
#include "engine/tensor_parallel_decode.h"
#include "rpc/tls_flags.h"
#include "wire/worker_info.h"
#include "worker/model_flags.h"
#include "worker/serve_worker.h"
#include "worker/worker_identity.h"

ABSL_FLAG(std::string, listen, "127.0.0.1:50062",
          "host:port of the gRPC server; port 0 takes any free one");
ABSL_FLAG(
    int64_t, kv_cache_mib, 0,
    "memory for KV blocks, over all ranks; 0: 1024 on the CPU, nine tenths of what the weights "
    "leave on GPUs");
ABSL_FLAG(int, kv_block_size, 16, "entries per KV block");
ABSL_FLAG(bool, zero_freed_kv, true, "overwrite KV blocks when their sequence ends");
ABSL_FLAG(int, max_batch, 64, "sequences in one decode step");
ABSL_FLAG(int64_t, lease_ttl_ms, 20000,
          "how long a reservation lives without news from its prefill worker");
ABSL_FLAG(
    int64_t, max_reservations_per_peer, 1024,
    "reservations that one prefill worker, by the name in its certificate, may hold at a time; "
    "without certificates every prefill process is one; 0: no limit");
ABSL_FLAG(int64_t, max_bytes_per_peer, 0,
          "KV bytes of the reservations that one prefill worker may hold at a time; 0: no limit");
ABSL_FLAG(int64_t, drain_timeout_s, 30, "time that running generations get after SIGTERM");

namespace winnow {
namespace {

// Checks flag ranges that no component validates itself.
absl::Status CheckFlags() {
  WINNOW_RETURN_IF_ERROR(CheckFlagRange("kv-cache-mib", absl::GetFlag(FLAGS_kv_cache_mib), 0));
  WINNOW_RETURN_IF_ERROR(CheckFlagRange("kv-block-size", absl::GetFlag(FLAGS_kv_block_size), 1));
  WINNOW_RETURN_IF_ERROR(CheckFlagRange("max-batch", absl::GetFlag(FLAGS_max_batch), 1));
  WINNOW_RETURN_IF_ERROR(CheckFlagRange("lease-ttl-ms", absl::GetFlag(FLAGS_lease_ttl_ms), 1));
  WINNOW_RETURN_IF_ERROR(CheckFlagRange("max-reservations-per-peer",
                                        absl::GetFlag(FLAGS_max_reservations_per_peer), 0));
  WINNOW_RETURN_IF_ERROR(
      CheckFlagRange("max-bytes-per-peer", absl::GetFlag(FLAGS_max_bytes_per_peer), 0));
  return CheckFlagRange("drain-timeout-s", absl::GetFlag(FLAGS_drain_timeout_s), 0);
}

ReservationTable::Options ReservationOptions(const WorkerIdentity& identity, int element_bytes) {
  return {.shape = identity.shape,
          .kv_element_bytes = element_bytes,
          .layout_digest = identity.layout_digest,
          .incarnation = identity.incarnation,
          .ttl = absl::Milliseconds(absl::GetFlag(FLAGS_lease_ttl_ms)),
          .quota_per_peer = {.reservations = absl::GetFlag(FLAGS_max_reservations_per_peer),
                             .bytes = absl::GetFlag(FLAGS_max_bytes_per_peer)}};
}

absl::Status Run() {
  RealClock clock;
  WINNOW_RETURN_IF_ERROR(CheckFlags());
  MetricsRegistry registry("decode");
  ExportBuildInfo(registry);
  DecodeMetrics metrics(registry);
  WINNOW_ASSIGN_OR_RETURN(
      const ModelRanks::Options load,
      ModelOptionsOfFlags(clock, [&](const absl::Status& s) { metrics.OnNcclAbort(s); }));
  WINNOW_ASSIGN_OR_RETURN(const std::unique_ptr<ModelRanks> ranks, LoadModelRanks(load));
  WINNOW_ASSIGN_OR_RETURN(const std::unique_ptr<PagedKv> kv,
                          MakeKvMemory(*ranks, {.mib = absl::GetFlag(FLAGS_kv_cache_mib),
                                                .block_size = absl::GetFlag(FLAGS_kv_block_size),
                                                .zero_freed = absl::GetFlag(FLAGS_zero_freed_kv)}));
  TensorParallelDecode::Options engine_options{.kv = kv.get(),
                                               .clock = &clock,
                                               .max_batch = absl::GetFlag(FLAGS_max_batch),
                                               .max_context = absl::GetFlag(FLAGS_max_model_len)};
  engine_options.parts = ranks->parts();
  WINNOW_ASSIGN_OR_RETURN(const std::unique_ptr<TensorParallelDecode> engine,
                          TensorParallelDecode::Create(engine_options));
  WINNOW_ASSIGN_OR_RETURN(
      const WorkerIdentity identity,
      MakeWorkerIdentity(v1::WORKER_ROLE_DECODE, load, *ranks, engine->shape()));
  ExportModelInfo(registry, identity.layout_digest, SelectionConfigToJson(identity.profile));

  DecodeCore core(std::make_unique<PagedKvTarget>(*kv), *engine, clock, metrics,
                  {.reservations = ReservationOptions(identity, ElementSize(load.types.kv))});
  KvTransferService transfer_service(core);
  DecodeService decode_service(core, clock, ToProto(identity));
  const auto export_metrics = [&] {
    metrics.Refresh(core);
    return registry.Serialize();
  };
  const auto check = [&] {
    core.Expire();
    const absl::Status fault = FailAt("decode.device");
    return fault.ok() ? ranks->Health() : fault;
  };
  const auto num_running = [&] {
    core.Expire();
    return core.num_active();
  };
  return ServeWorker({.identity = identity,
                      .listen = absl::GetFlag(FLAGS_listen),
                      .services = {&transfer_service, &decode_service},
                      .metrics = export_metrics,
                      .check = check,
                      .refuse_new = [&] { core.Drain(); },
                      .num_running = num_running,
                      .drain_timeout = absl::Seconds(absl::GetFlag(FLAGS_drain_timeout_s))},
                     clock);
}

}  // namespace
}  // namespace winnow

int main(int argc, char** argv) {
  winnow::StartServerProgram(
      argc, argv, "decode",
      "Winnow's decode worker: receives the KV of prefilled prompts over gRPC and generates their "
      "tokens.\n"
      "  winnow-decode-worker --model DIR [--listen HOST:PORT] [--tp T]",
      {{"Decode worker", "decode_worker/"},
       {"Model and device", "worker/model_flags.cc"},
       {"Registration with routers", "worker/registration_flags.cc"},
       {"TLS", "rpc/tls_flags.cc"}});
  winnow::KeepFreedMemory();
  return winnow::ExitCode(winnow::Run());
}
