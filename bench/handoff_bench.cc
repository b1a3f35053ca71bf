// The KV of one prompt from a prefill worker's memory into a decode worker's blocks: gRPC over
// loopback between two halves of this process, without engines. Llama-3.1-8B shape, unpruned.
// Beside it the same bytes over bare gRPC streams and over plain sockets.
//
//   handoff_bench [--tokens 24,488,8192] [--streams 1,4] [--repeats 5] [--device cpu] [--peers]
//                 [--tls-cert FILE --tls-key FILE --tls-ca FILE]
//
// Prints a JSON object: {"device", "commit", "tls", "runs": [{"kv_mb", "streams", "winnow":
// {"seconds", "gb_s", "cpu_s_per_gb"}, "grpc": …, "tcp": …}]}. Medians; winnow from the first part
// that is ready to the answer of Commit, with checksums, books and stores.
#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <future>
#include <random>
#include <thread>

#include "absl/flags/flag.h"
#include "absl/strings/numbers.h"
#include "bench/commit.h"  // of the build folder
#include "bench/handoff_peers.h"
#include "bench/unwrap.h"
#include "checkpoint/model_config.h"
#include "common/process.h"
#include "common/program_flags.h"
#include "decode_worker/kv_transfer_service.h"
#include "decode_worker/paged_kv_target.h"
#include "engine/device/cpu_backend.h"
#include "engine/ranks/choose_device.h"
#include "nlohmann/json.hpp"
#include "plan/selection_config.h"
#include "prefill_worker/grpc_kv_handoff_factory.h"
#include "rpc/server.h"
#include "rpc/tls_flags.h"

ABSL_FLAG(std::vector<std::string>, tokens, (std::vector<std::string>{"24", "488", "8192"}),
          "of the prompt: 3 MB, 64 MB and 1 GB of KV");
ABSL_FLAG(std::vector<std::string>, streams, (std::vector<std::string>{"1", "4"}),
          "push streams, to try one after another");
ABSL_FLAG(bool, peers, true, "measure bare gRPC and TCP, too");
ABSL_FLAG(int, repeats, 5, "timed, after one; at least until a gigabyte has moved");
ABSL_FLAG(std::string, device, "cpu", "whose memory the KV leaves and enters: cpu or cuda");

namespace winnow {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kLayout[] = "bench";
constexpr uint64_t kPrefill = 5, kDecode = 7;  // incarnations
constexpr int kMaxTokens = 2, kElementBytes = 2;

// Ends every sequence with its first step.
class NoModel final : public DecodeEngine {
 public:
  explicit NoModel(const ModelShape& shape) : shape_(shape) {}
  const ModelShape& shape() const override { return shape_; }
  int max_batch() const override { return 1; }
  absl::StatusOr<std::vector<int32_t>> Step(absl::Span<const DecodeStepItem> items) override {
    return std::vector<int32_t>(items.size(), 0);
  }

 private:
  const ModelShape shape_;
};

struct DecodeSide {
  DecodeSide(const ModelShape& shape, Backend& backend, const KvPlan& plan)
      : kv(Unwrap(PagedKv::Create(Options(shape, backend, plan)))),
        engine(shape),
        core(std::make_unique<PagedKvTarget>(*kv), engine, clock, events,
             {.reservations = {.shape = shape,
                               .kv_element_bytes = kElementBytes,
                               .layout_digest = kLayout,
                               .incarnation = kDecode}}),
        service(core),
        server(Unwrap(StartServer({.services = {&service}, .security = SecurityOfFlags()}))) {}

  static PagedKv::Options Options(const ModelShape& shape, Backend& backend, const KvPlan& plan) {
    PagedKv::Options options{.shape = shape, .backends = {&backend}, .zero_freed = false};
    options.num_blocks =
        plan.num_layers * (plan.num_prompt_tokens / options.block_size + kMaxTokens + 1);
    return options;
  }
  // Until the sequence that was committed has ended and its blocks are free.
  void AwaitEnd() const {
    while (core.num_active() > 0) std::this_thread::yield();
  }

  RealClock clock;
  std::unique_ptr<PagedKv> kv;
  NoModel engine;
  DecodeEvents events;
  DecodeCore core;
  KvTransferService service;
  std::unique_ptr<RpcServer> server;
};

struct Cost {
  double seconds = 0, cpu_seconds = 0;
};

double CpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// Of one figure: a single small handoff measures little but its first round trips.
constexpr int64_t kLeastBytes = 1'000'000'000;

// The median of `repeats` runs in time, after one that warms up. `run` gives back when it began.
template <typename Run>
Cost Measure(int repeats, Run run) {
  std::vector<Cost> costs;
  for (int i = 0; i <= repeats; ++i) {
    const double cpu = CpuSeconds();
    const absl::Duration time = run();
    costs.push_back({absl::ToDoubleSeconds(time), CpuSeconds() - cpu});
  }
  costs.erase(costs.begin());
  const auto middle = costs.begin() + repeats / 2;
  std::nth_element(costs.begin(), middle, costs.end(),
                   [](const Cost& a, const Cost& b) { return a.seconds < b.seconds; });
  return *middle;
}

std::shared_ptr<KvStaging> RandomStaging(const ModelShape& shape, Backend& backend,
                                         const KvPlan& plan) {
  auto staging = std::make_shared<KvStaging>();
  staging->plan = plan;
  KvStaging::Rank rank{.heads = Unwrap(SplitHeads(shape, 1, 0)),
                       .layout = KvLayout(plan, shape.num_kv_heads, kElementBytes)};
  rank.memory = Unwrap(backend.AllocateHost(rank.layout.total_bytes()));
  std::mt19937_64 random(1);
  auto* words = rank.memory.data<uint64_t>();
  std::generate(words, words + rank.memory.bytes() / sizeof(uint64_t), random);
  staging->ranks.push_back(std::move(rank));
  return staging;
}

Cost MeasureHandoff(const ModelShape& shape, Backend& backend,
                    const std::shared_ptr<KvStaging>& staging, int streams, int repeats) {
  const KvPlan& plan = staging->plan;
  RealClock clock;
  DecodeSide decode(shape, backend, plan);
  GrpcKvHandoffFactory handoffs({.incarnation = kPrefill,
                                 .layout_digest = kLayout,
                                 .streams_per_rank = streams,
                                 .tls = TlsFilesOfFlags(),
                                 .clock = &clock});
  int run = 0;
  return Measure(repeats, [&] {
    const auto handoff = handoffs.Create({.request_id = "request " + std::to_string(run++),
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
    const absl::Duration time = clock.Now() - begin;
    decode.AwaitEnd();
    return time;
  });
}

Cost MeasurePipe(BytePipe& pipe, const Buffer& memory, int64_t bytes, int repeats) {
  RealClock clock;
  return Measure(repeats, [&] {
    const absl::Time begin = clock.Now();
    pipe.Send(memory.data<std::byte>(), bytes);
    return clock.Now() - begin;
  });
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
    backend = std::make_unique<CpuBackend>(CpuBackend::Options{.types = DType::kBf16});
  }
  SelectionConfig full;
  full.policy = &kFullPolicy;
  Json json = {{"device", backend->name()},
               {"commit", WINNOW_COMMIT},
               {"tls", !TlsFilesOfFlags().empty()},
               {"runs", Json::array()}};
  for (const std::string& tokens : absl::GetFlag(FLAGS_tokens)) {
    int64_t num_tokens = 0;
    if (!absl::SimpleAtoi(tokens, &num_tokens)) {
      Die(absl::InvalidArgumentError("--tokens: " + tokens));
    }
    const KvPlan plan = MakePrefillPlan(shape, full, num_tokens).kv;
    const int64_t bytes = plan.payload_bytes(kElementBytes);
    const int repeats =
        std::max<int>(absl::GetFlag(FLAGS_repeats), static_cast<int>(kLeastBytes / bytes));
    const auto staging = RandomStaging(shape, *backend, plan);
    for (const std::string& text : absl::GetFlag(FLAGS_streams)) {
      int streams = 0;
      if (!absl::SimpleAtoi(text, &streams)) Die(absl::InvalidArgumentError("--streams: " + text));
      Json run = {{"kv_mb", static_cast<double>(bytes) * 1e-6}, {"streams", streams}};
      const auto report = [&](const char* what, const Cost& cost) {
        const double gb = static_cast<double>(bytes) * 1e-9;
        run[what] = {{"seconds", cost.seconds},
                     {"gb_s", gb / cost.seconds},
                     {"cpu_s_per_gb", cost.cpu_seconds / gb}};
        std::fprintf(stderr, "%8.1f MB, %d stream(s), %-6s: %6.2f GB/s, %5.2f s of CPU per GB\n",
                     gb * 1e3, streams, what, gb / cost.seconds, cost.cpu_seconds / gb);
      };
      report("winnow", MeasureHandoff(shape, *backend, staging, streams, repeats));
      if (absl::GetFlag(FLAGS_peers)) {
        const Buffer& memory = staging->ranks[0].memory;
        report("grpc",
               MeasurePipe(*MakeGrpcPipe(streams, SecurityOfFlags()), memory, bytes, repeats));
        report("tcp", MeasurePipe(*MakeTcpPipe(streams), memory, bytes, repeats));
      }
      json["runs"].push_back(run);
    }
  }
  std::printf("%s\n", json.dump().c_str());
  return 0;
}

}  // namespace
}  // namespace winnow

int main(int argc, char** argv) {
  winnow::ParseProgramFlags(argc, argv,
                            "KV handed over through the real transfer services, beside the same "
                            "bytes over bare gRPC and TCP. Prints a JSON object.");
  winnow::KeepFreedMemory();  // as the workers do
  return winnow::Main();
}
