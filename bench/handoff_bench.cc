// The KV of one prompt from a prefill worker's memory into a decode worker's blocks: gRPC over
// loopback between two halves of this process, without engines. Llama-3.1-8B shape, unpruned.
//
//   handoff_bench [--tokens 8192] [--streams 1,2,4,8] [--repeats 5] [--device cpu]
//
// Prints a JSON object: {"device", "commit", "kv_gb", "seconds": {streams: median},
// "gb_s": {streams: …}}, from the first part that is ready to the answer of Commit.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <random>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/strings/numbers.h"
#include "bench/commit.h"  // of the build folder
#include "checkpoint/model_config.h"
#include "common/process.h"
#include "decode_worker/kv_transfer_service.h"
#include "decode_worker/paged_kv_target.h"
#include "engine/device/choose_device.h"
#include "engine/device/cpu_backend.h"
#include "nlohmann/json.hpp"
#include "prefill_worker/grpc_kv_handoff.h"
#include "rpc/server.h"

ABSL_FLAG(int64_t, tokens, 8192, "of the prompt");
ABSL_FLAG(std::vector<std::string>, streams, (std::vector<std::string>{"1", "2", "4", "8"}),
          "push streams, to try one after another");
ABSL_FLAG(int, repeats, 5, "timed, after one");
ABSL_FLAG(std::string, device, "cpu", "whose memory the KV leaves and enters: cpu or cuda");

namespace winnow {
namespace {

using Json = nlohmann::ordered_json;

[[noreturn]] void Die(const absl::Status& status) {
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  std::exit(1);
}
template <typename T>
T Unwrap(absl::StatusOr<T> value) {
  if (!value.ok()) Die(value.status());
  return *std::move(value);
}

constexpr char kLayout[] = "bench";
constexpr uint64_t kPrefill = 5, kDecode = 7;  // incarnations
constexpr int kMaxTokens = 2, kElementBytes = 2;

// A decode worker that frees what was committed.
struct DecodeSide {
  DecodeSide(const ModelShape& shape, Backend& backend, const KvPlan& plan)
      : kv(Unwrap(PagedKv::Create(Options(shape, backend, plan)))),
        target(*kv),
        table({.shape = shape,
               .kv_element_bytes = kElementBytes,
               .layout_digest = kLayout,
               .incarnation = kDecode,
               .ttl = absl::Seconds(20),
               .target = &target,
               .clock = &clock,
               .on_committed =
                   [this](const CommittedSequence& sequence) {
                     committed = sequence;
                     return absl::OkStatus();
                   }}),
        service(table),
        server(Unwrap(StartServer({.services = {&service}}))) {}

  static PagedKv::Options Options(const ModelShape& shape, Backend& backend, const KvPlan& plan) {
    PagedKv::Options options{.shape = shape, .backends = {&backend}, .zero_freed = false};
    options.num_blocks =
        plan.num_layers * (plan.num_prompt_tokens / options.block_size + kMaxTokens + 1);
    return options;
  }
  void Finish() {
    kv->Free(committed.handle);
    table.Finish(committed.reservation_id);
  }

  RealClock clock;
  std::unique_ptr<PagedKv> kv;
  PagedKvTarget target;
  CommittedSequence committed;
  ReservationTable table;
  KvTransferService service;
  std::unique_ptr<RpcServer> server;
};

double Seconds(const ModelShape& shape, Backend& backend, const KvPlan& plan, int streams,
               int repeats) {
  RealClock clock;
  DecodeSide decode(shape, backend, plan);
  GrpcKvHandoffs handoffs({.incarnation = kPrefill,
                           .layout_digest = kLayout,
                           .kv_element_bytes = kElementBytes,
                           .streams_per_rank = streams,
                           .clock = &clock});
  auto staging = std::make_shared<KvStaging>();
  staging->plan = plan;
  KvStaging::Rank rank{.heads = Unwrap(SplitHeads(shape, 1, 0)),
                       .layout = KvLayout(plan, shape.num_kv_heads, kElementBytes)};
  rank.memory = Unwrap(backend.AllocateHost(rank.layout.total_bytes()));
  std::mt19937_64 random(1);
  auto* words = rank.memory.data<uint64_t>();
  std::generate(words, words + rank.memory.bytes() / sizeof(uint64_t), random);
  staging->ranks.push_back(std::move(rank));

  std::vector<double> times;
  for (int run = 0; run <= repeats; ++run) {
    const auto handoff = handoffs.Create({.request_id = "request " + std::to_string(run),
                                          .attempt = 1,
                                          .decode_address = decode.server->address(),
                                          .decode_incarnation = kDecode,
                                          .deadline = Deadline::Infinite()});
    std::promise<absl::Status> reserved, committed;
    handoff->Reserve(plan, kMaxTokens, [&](auto grant) { reserved.set_value(grant.status()); });
    if (auto status = reserved.get_future().get(); !status.ok()) Die(status);
    KvSink* sink = handoff->Open(staging);
    const absl::Time begin = clock.Now();
    for (int layer = 0; layer < plan.num_layers; ++layer) {
      sink->OnKvReady({0, layer, 0, plan.entries(layer)}, nullptr);
    }
    handoff->Commit({1}, {.max_tokens = kMaxTokens},
                    [&](auto summary) { committed.set_value(summary.status()); });
    if (auto status = committed.get_future().get(); !status.ok()) Die(status);
    times.push_back(absl::ToDoubleSeconds(clock.Now() - begin));
    decode.Finish();
  }
  times.erase(times.begin());
  std::nth_element(times.begin(), times.begin() + repeats / 2, times.end());
  return times[repeats / 2];
}

int Main() {
  const ModelShape shape =
      Unwrap(LoadModelConfig(WINNOW_SOURCE_DIR "/bench/configs/llama-3.1-8b")).shape;
  RealClock clock;
  ModelRanks::Options device{.clock = &clock};
  if (auto s = ChooseDevice(absl::GetFlag(FLAGS_device), "bf16", device); !s.ok()) Die(s);
  std::unique_ptr<Backend> backend;
  if (device.make_backend) {
    backend = Unwrap(device.make_backend(0));
  } else {
    backend = std::make_unique<CpuBackend>(CpuBackend::Options{.dtype = DType::kBf16});
  }
  SelectionConfig full;
  full.policy = SelectionPolicy::kFull;
  const KvPlan plan = MakeKvPlan(shape, full, absl::GetFlag(FLAGS_tokens));
  const double bytes =
      4.0 * plan.num_layers * plan.num_prompt_tokens * shape.num_kv_heads * shape.head_dim;
  Json json = {{"device", backend->name()}, {"commit", WINNOW_COMMIT}, {"kv_gb", bytes * 1e-9}};
  for (const std::string& text : absl::GetFlag(FLAGS_streams)) {
    int streams = 0;
    if (!absl::SimpleAtoi(text, &streams)) Die(absl::InvalidArgumentError("--streams: " + text));
    const double seconds = Seconds(shape, *backend, plan, streams, absl::GetFlag(FLAGS_repeats));
    std::fprintf(stderr, "%d stream(s): %.3f s, %.2f GB/s\n", streams, seconds,
                 bytes * 1e-9 / seconds);
    json["seconds"][text] = seconds;
    json["gb_s"][text] = bytes * 1e-9 / seconds;
  }
  std::printf("%s\n", json.dump().c_str());
  return 0;
}

}  // namespace
}  // namespace winnow

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  winnow::KeepFreedMemory();  // as the workers do
  return winnow::Main();
}
