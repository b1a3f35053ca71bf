// The decode worker: receives KV, decodes, streams tokens.
#include <algorithm>
#include <limits>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "checkpoint/selection_profile.h"
#include "common/fault.h"
#include "common/log.h"
#include "common/process.h"
#include "common/program_flags.h"
#include "common/server_flags.h"
#include "common/status_macros.h"
#include "decode_worker/decode_metrics.h"
#include "decode_worker/decode_service.h"
#include "decode_worker/kv_transfer_service.h"
#include "decode_worker/paged_kv_target.h"
#include "engine/tensor_parallel_decode.h"
#include "plan/layout_digest.h"
#include "rpc/tls_flags.h"
#include "transfer/chunk_codec.h"
#include "wire/worker_info.h"
#include "worker/model_flags.h"
#include "worker/serve_worker.h"

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

// What would not be refused by the part that gets it.
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

// Over all ranks.
int64_t KvCacheBytes(const ModelRanks& ranks) {
  if (const int64_t mib = absl::GetFlag(FLAGS_kv_cache_mib); mib > 0) return mib << 20;
  int64_t least = std::numeric_limits<int64_t>::max();
  for (const auto& backend : ranks.backends) least = std::min(least, backend->FreeBytes());
  if (least == std::numeric_limits<int64_t>::max()) return int64_t{1} << 30;
  return least / 10 * 9 * static_cast<int64_t>(ranks.backends.size());
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

  TensorParallelDecode::Options engine_options{.clock = &clock,
                                               .max_batch = absl::GetFlag(FLAGS_max_batch),
                                               .max_context = absl::GetFlag(FLAGS_max_model_len)};
  ranks->Fill(engine_options);
  PagedKv::Options kv_options{.shape = ranks->config.shape,
                              .block_size = absl::GetFlag(FLAGS_kv_block_size)};
  for (const auto& backend : ranks->backends) kv_options.backends.push_back(backend.get());
  const int64_t block_bytes = PagedKv::BlockBytes(
      kv_options.shape, load.tensor_parallel, kv_options.block_size, ElementSize(load.types.kv));
  kv_options.num_blocks = KvCacheBytes(*ranks) / block_bytes;
  kv_options.zero_freed = kv_options.zero_in_background = absl::GetFlag(FLAGS_zero_freed_kv);
  WINNOW_ASSIGN_OR_RETURN(const std::unique_ptr<PagedKv> kv, PagedKv::Create(kv_options));
  engine_options.kv = kv.get();
  WINNOW_ASSIGN_OR_RETURN(const std::unique_ptr<TensorParallelDecode> engine,
                          TensorParallelDecode::Create(engine_options));
  spdlog::info(
      "KV memory: {:.0f} MiB over {} rank(s): {} blocks of {} entries, for {} tokens with unpruned "
      "KV",
      static_cast<double>(kv_options.num_blocks * block_bytes) / (1 << 20), load.tensor_parallel,
      kv_options.num_blocks, kv_options.block_size,
      kv_options.num_blocks * kv_options.block_size / kv_options.shape.num_layers);

  WorkerIdentity identity{.role = v1::WORKER_ROLE_DECODE,
                          .incarnation = NewIncarnation(),
                          .tensor_parallel = load.tensor_parallel,
                          .kv_dtype = DTypeName(load.types.kv),
                          .model_id = ModelId(load.model_dir),
                          .shape = engine->shape(),
                          .eos_token_ids = ranks->config.eos_token_ids,
                          .wire_version = kWireVersion};
  identity.layout_digest = LayoutDigest(ranks->revision, identity.kv_dtype, ranks->config.shape,
                                        ranks->config.rope.theta);
  WINNOW_ASSIGN_OR_RETURN(identity.profile,
                          LoadSelectionProfile(load.model_dir, ranks->config.shape));
  ExportModelInfo(registry, identity.layout_digest, SelectionConfigToJson(identity.profile));

  PagedKvTarget target(*kv, [&](int64_t bytes) { metrics.OnKvWritten(bytes); });
  DecodeScheduler* activated = nullptr;
  ReservationTable table(
      {.shape = engine->shape(),
       .kv_element_bytes = ElementSize(load.types.kv),
       .layout_digest = identity.layout_digest,
       .incarnation = identity.incarnation,
       .ttl = absl::Milliseconds(absl::GetFlag(FLAGS_lease_ttl_ms)),
       .quota_per_peer = {.reservations = absl::GetFlag(FLAGS_max_reservations_per_peer),
                          .bytes = absl::GetFlag(FLAGS_max_bytes_per_peer)},
       .target = &target,
       .clock = &clock,
       .on_committed = [&](const CommittedSequence& s) { return activated->Activate(s); },
       .on_ended =
           [&](const std::string& id, ReservationState state, const absl::Status& why) {
             metrics.OnReservationEnded(state, why);
             activated->OnReservationEnded(id, why);
           }});
  DecodeScheduler scheduler(*engine, clock, metrics,
                            [&](const std::string& id, int64_t handle) {
                              kv->Free(handle);
                              table.Finish(id);
                            },
                            {});
  activated = &scheduler;

  KvTransferService transfer_service(table, [&] { metrics.OnDamagedKv(); });
  DecodeService decode_service(scheduler, table, *kv, clock, {ToProto(identity)});
  return ServeWorker({.identity = identity,
                      .listen = absl::GetFlag(FLAGS_listen),
                      .services = {&transfer_service, &decode_service},
                      .metrics =
                          [&] {
                            metrics.Refresh(*kv, table);
                            return registry.Serialize();
                          },
                      .check =
                          [&] {
                            table.Expire();
                            const absl::Status fault = FailAt("decode.device");
                            return fault.ok() ? ranks->Health() : fault;
                          },
                      .refuse_new = [&] { transfer_service.Drain(); },
                      .num_running =
                          [&] {
                            table.Expire();
                            return int64_t{table.num_active()};
                          },
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
