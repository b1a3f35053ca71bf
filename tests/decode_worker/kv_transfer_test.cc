// The whole handoff over gRPC on loopback: a prefill worker's client, a decode worker's service,
// and a fake KV memory.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <future>
#include <mutex>

#include "absl/strings/str_cat.h"
#include "common/retry_hint.h"
#include "decode_worker/kv_transfer_service.h"
#include "plan/selection_config.h"
#include "prefill_worker/grpc_kv_handoff_factory.h"
#include "prefill_worker/push_stream.h"
#include "rpc/channel.h"
#include "rpc/grpc_status.h"
#include "rpc/server.h"
#include "tests/decode_worker/fake_decode.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/wait_until.h"
#include "tests/transfer/transfer_fixture.h"
#include "transfer/chunk_codec.h"
#include "wire/kv_plan_proto.h"
#include "wire/plan_proto.h"

namespace winnow {
namespace {

constexpr int kMaxTokens = 5;

// One layer whose heads take 1.2 MB of keys each, so that chunks reach their limit.
KvPlan LargePlan() {
  ModelShape shape = SmallShape();
  shape.num_layers = 1;
  shape.head_dim = 64;
  SelectionConfig config;
  config.policy = &kFullPolicy;
  return MakePrefillPlan(shape, config, 10'000).kv;
}

// A decode worker whose engine computes nothing and stays in its first step, so that the KV of
// committed sequences can be looked at.
class DecodeSide {
 public:
  explicit DecodeSide(const KvPlan& plan, int room = 1000, absl::Duration ttl = absl::Seconds(20))
      : DecodeSide(plan, std::make_unique<FakeTarget>(room), ttl) {}
  ~DecodeSide() { engine.Run(); }

  int64_t num_activated() { return core.load().sequences; }
  // Of the first sequence that was committed.
  FakeDecodeEngine::Item FirstStep() {
    EXPECT_TRUE(engine.WaitForSteps(1));
    return engine.steps().at(0).at(0);
  }

  FakeClock clock;
  FakeTarget& target;
  FakeDecodeEngine engine;
  DecodeEvents events;
  DecodeCore core;
  KvTransferService service;
  std::unique_ptr<RpcServer> server;

 private:
  DecodeSide(const KvPlan& plan, std::unique_ptr<FakeTarget> memory, absl::Duration ttl)
      : target(*memory),
        engine({.num_layers = plan.num_layers,
                .num_q_heads = 8,
                .num_kv_heads = plan.num_kv_heads,
                .head_dim = plan.head_dim,
                .vocab_size = 100,
                .max_context = 20'000}),
        core(std::move(memory), engine, clock, events,
             {.reservations = {.shape = engine.shape(),
                               .kv_element_bytes = kElementBytes,
                               .layout_digest = "layout",
                               .incarnation = 7,
                               .ttl = ttl,
                               .retry_after = absl::Milliseconds(150)}}),
        service(core) {
    engine.Hold();
    auto started = StartServer({.services = {&service}});
    EXPECT_TRUE(started.ok()) << started.status();
    server = std::move(*started);
  }
};

// A prefill worker's side of one request.
class PrefillSide {
 public:
  PrefillSide(const KvPlan& plan, std::string address, int tensor_parallel = 1,
              int streams_per_rank = 1, absl::Duration call_timeout = absl::Seconds(5),
              uint64_t decode_incarnation = 7, Deadline deadline = Deadline::Infinite(),
              uint32_t newest_wire_version = kWireVersion)
      : prompt(plan),
        handoffs_({.incarnation = 5,
                   .layout_digest = "layout",
                   .tensor_parallel = tensor_parallel,
                   .streams_per_rank = streams_per_rank,
                   .newest_wire_version = newest_wire_version,
                   .call_timeout = call_timeout,
                   .clock = &clock_}),
        tensor_parallel_(tensor_parallel) {
    handoff = handoffs_.Create({.request_id = "request",
                                .attempt = 1,
                                .decode_address = std::move(address),
                                .decode_incarnation = decode_incarnation,
                                .deadline = deadline});
  }

  absl::StatusOr<KvHandoff::Grant> Reserve() {
    std::promise<absl::StatusOr<KvHandoff::Grant>> promise;
    auto future = promise.get_future();
    handoff->Reserve(prompt.plan(), kMaxTokens,
                     [&](auto grant) { promise.set_value(std::move(grant)); });
    if (future.wait_for(kPatience) != std::future_status::ready)
      std::abort();  // the callback has our frame
    return future.get();
  }

  void Open() {
    auto staging = std::make_shared<KvStaging>();
    staging->plan = prompt.plan();
    const FilledStaging filled(prompt, tensor_parallel_);
    for (const KvSender::SourceRank& rank : filled.ranks()) {
      const int64_t bytes = rank.layout.total_bytes();
      void* memory = std::malloc(bytes + 1);
      if (bytes > 0)
        std::memcpy(memory, rank.staging, bytes);  // a rank that shares its heads has none
      staging->ranks.push_back(
          {rank.heads, rank.layout, Buffer(memory, bytes, [](void* p) { std::free(p); })});
    }
    staging_ = staging;
    sink_ = handoff->Open(std::move(staging));
  }
  void MakeReady(int rank, int layer) {
    sink_->OnKvReady({rank, layer, 0, prompt.plan().entries(layer)}, nullptr);
  }
  void MakeAllReady() {
    for (int layer = 0; layer < prompt.plan().num_layers; ++layer) {
      for (int rank = 0; rank < tensor_parallel_; ++rank) MakeReady(rank, layer);
    }
  }
  absl::StatusOr<KvHandoff::Summary> Commit() {
    std::promise<absl::StatusOr<KvHandoff::Summary>> promise;
    auto future = promise.get_future();
    SamplingParams sampling{
        .temperature = 0.5, .seed = 99, .max_tokens = kMaxTokens, .stop_token_ids = {2}};
    handoff->Commit({17, 18}, sampling,
                    [&](auto summary) { promise.set_value(std::move(summary)); });
    if (future.wait_for(kPatience) != std::future_status::ready) std::abort();
    return future.get();
  }
  bool staging_is_free() const { return staging_.expired(); }

  const PromptKv prompt;

 private:
  RealClock clock_;
  GrpcKvHandoffFactory handoffs_;  // outlives the handoff

 public:
  std::shared_ptr<KvHandoff> handoff;

 private:
  const int tensor_parallel_;
  KvSink* sink_ = nullptr;
  std::weak_ptr<KvStaging> staging_;
};

TEST(KvTransferTest, AWholePlanArrivesFromAnyNumberOfRanksAndStreams) {
  for (const KvPlan& plan : {SmallPlan(), UnprunedPlan()}) {
    for (int tensor_parallel : {1, 2, 8}) {
      DecodeSide decode(plan);
      PrefillSide prefill(plan, decode.server->address(), tensor_parallel, /*streams_per_rank=*/2);
      const auto grant = prefill.Reserve();
      ASSERT_TRUE(grant.ok()) << grant.status();
      prefill.Open();
      prefill.MakeAllReady();
      const auto summary = prefill.Commit();
      ASSERT_TRUE(summary.ok()) << summary.status();
      EXPECT_EQ(summary->kv_payload_bytes, plan.payload_bytes(kElementBytes));
      EXPECT_EQ(decode.num_activated(), 1);
      EXPECT_EQ(decode.core.Status(grant->reservation_id)->state, SequenceState::kDecoding);
      const FakeDecodeEngine::Item first = decode.FirstStep();
      EXPECT_EQ(first, (FakeDecodeEngine::Item{first.handle, 40, 0, /*sample_index=*/-1, 17}));
      EXPECT_EQ(decode.target.CountWrongSlots(first.handle, prefill.prompt), 0);
      decode.engine.Allow(1);
      ASSERT_TRUE(decode.engine.WaitForSteps(2));
      EXPECT_THAT(decode.engine.steps()[1], ::testing::ElementsAre(FakeDecodeEngine::Item{
                                                first.handle, 41, 1, 2, 18, /*seed=*/99}));
    }
  }
}

TEST(KvTransferTest, AnOlderPrefillWorkerIsUnderstood) {
  DecodeSide decode(SmallPlan());
  PrefillSide prefill(SmallPlan(), decode.server->address(), 1, 1, absl::Seconds(5), 7,
                      Deadline::Infinite(), kOldestWireVersion);
  ASSERT_TRUE(prefill.Reserve().ok());
  prefill.Open();
  prefill.MakeAllReady();
  const auto summary = prefill.Commit();
  ASSERT_TRUE(summary.ok()) << summary.status();
  EXPECT_EQ(decode.target.CountWrongSlots(decode.FirstStep().handle, prefill.prompt), 0);
}

TEST(KvTransferTest, ChunksOfAMebibyteArriveAndTheirMemoryIsReleased) {
  DecodeSide decode(LargePlan());
  PrefillSide prefill(LargePlan(), decode.server->address(), /*tensor_parallel=*/2);
  ASSERT_TRUE(prefill.Reserve().ok());
  prefill.Open();
  prefill.MakeAllReady();
  const auto summary = prefill.Commit();
  ASSERT_TRUE(summary.ok()) << summary.status();
  EXPECT_EQ(decode.target.CountWrongSlots(decode.FirstStep().handle, prefill.prompt), 0);
  prefill.handoff.reset();
  EXPECT_TRUE(WaitUntil([&] { return prefill.staging_is_free(); }));
}

TEST(KvTransferTest, AFullWorkersHintReachesThePrefillWorker) {
  DecodeSide decode(SmallPlan(), /*room=*/0);
  const absl::Status full = PrefillSide(SmallPlan(), decode.server->address()).Reserve().status();
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(GetRetryAfter(full), absl::Milliseconds(150));
}

TEST(KvTransferTest, ADrainingWorkerIsUnavailableAndARestartedOneRefusesItsOldName) {
  DecodeSide decode(SmallPlan());
  const std::string address = decode.server->address();
  PrefillSide late(SmallPlan(), address, 1, 1, absl::Seconds(5), /*decode_incarnation=*/6);
  EXPECT_EQ(late.Reserve().status().code(), absl::StatusCode::kFailedPrecondition);
  decode.core.Drain();
  EXPECT_EQ(PrefillSide(SmallPlan(), address).Reserve().status().code(),
            absl::StatusCode::kUnavailable);
}

TEST(KvTransferTest, AWorkerThatIsGoneIsUnavailable) {
  DecodeSide decode(SmallPlan());
  PrefillSide before(SmallPlan(), decode.server->address());
  PrefillSide during(SmallPlan(), decode.server->address());
  ASSERT_TRUE(during.Reserve().ok());
  during.Open();
  during.MakeReady(0, 0);
  decode.server->Shutdown(absl::ZeroDuration());
  const absl::Time begin = absl::Now();
  EXPECT_EQ(before.Reserve().status().code(), absl::StatusCode::kUnavailable);
  for (int layer = 1; layer < 4; ++layer) during.MakeReady(0, layer);
  const absl::StatusCode code = during.Commit().status().code();
  EXPECT_TRUE(code == absl::StatusCode::kUnavailable || code == absl::StatusCode::kCancelled)
      << absl::StatusCodeToString(code);
  EXPECT_LT(absl::Now() - begin, absl::Seconds(10));
  EXPECT_EQ(decode.num_activated(), 0);
}

// Accepts connections and says nothing.
class SilentServer {
 public:
  SilentServer() : socket_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof(address);
    EXPECT_EQ(bind(socket_, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(listen(socket_, 16), 0);
    EXPECT_EQ(getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size), 0);
    address_ = absl::StrCat("127.0.0.1:", ntohs(address.sin_port));
  }
  ~SilentServer() { close(socket_); }
  const std::string& address() const { return address_; }

 private:
  const int socket_;
  std::string address_;
};

TEST(KvTransferTest, ASilentWorkerIsUnavailableUntilTheRequestsOwnDeadline) {
  SilentServer silent;
  const RealClock clock;
  EXPECT_EQ(PrefillSide(SmallPlan(), silent.address(), 1, 1, absl::Milliseconds(200))
                .Reserve()
                .status()
                .code(),
            absl::StatusCode::kUnavailable);
  EXPECT_EQ(PrefillSide(SmallPlan(), silent.address(), 1, 1, absl::Seconds(10), 7,
                        Deadline::After(clock, absl::Milliseconds(200)))
                .Reserve()
                .status()
                .code(),
            absl::StatusCode::kDeadlineExceeded);
}

TEST(KvTransferTest, APushStreamToASilentWorkerEndsAtItsDeadline) {
  SilentServer silent;
  const RealClock clock;
  const auto channel = *MakeChannel(silent.address());  // outlives the stream
  auto ended = std::make_shared<std::promise<absl::Status>>();
  auto future = ended->get_future();
  const std::weak_ptr<void> stream_alive = ended;
  PushStream::Start(
      channel, {.deadline = Deadline::After(clock, absl::Milliseconds(200)), .clock = &clock},
      {.acknowledged = [](const v1::PushResponse&) {},
       .ended = [ended =
                     std::move(ended)](const absl::Status& status) { ended->set_value(status); }});
  if (future.wait_for(kPatience) != std::future_status::ready) std::abort();
  EXPECT_EQ(future.get().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(WaitUntil([&] { return stream_alive.expired(); }));
}

TEST(KvTransferTest, DroppingOrAbortingAHandoffFreesItsReservation) {
  for (int case_number = 0; case_number < 3; ++case_number) {
    DecodeSide decode(SmallPlan());
    PrefillSide prefill(SmallPlan(), decode.server->address());
    ASSERT_TRUE(prefill.Reserve().ok());
    if (case_number > 0) prefill.Open();
    if (case_number > 1) prefill.MakeReady(0, 0);
    if (case_number == 1) {
      prefill.handoff->Abort("the client left");
    } else {
      prefill.handoff.reset();
    }
    EXPECT_TRUE(WaitUntil([&] { return decode.target.num_live() == 0; })) << case_number;
    EXPECT_EQ(decode.core.num_active(), 0);
  }
}

TEST(KvTransferTest, AnAbortBeforeTheStreamsOpenEndsTheCommitToo) {
  DecodeSide decode(SmallPlan());
  PrefillSide prefill(SmallPlan(), decode.server->address());
  ASSERT_TRUE(prefill.Reserve().ok());
  prefill.handoff->Abort("the client left");
  prefill.Open();
  prefill.MakeAllReady();
  EXPECT_EQ(prefill.Commit().status().code(), absl::StatusCode::kCancelled);
}

TEST(KvTransferTest, CancelsInTheMiddleLeaveNoCallBehind) {
  DecodeSide decode(LargePlan());
  std::mutex mutex;
  std::condition_variable changed;
  int written = 0;
  decode.target.on_write = [&](const ChunkHeader&) {
    std::lock_guard<std::mutex> lock(mutex);
    ++written;
    changed.notify_all();
  };
  for (int round = 0; round < 10; ++round) {
    PrefillSide prefill(LargePlan(), decode.server->address(), /*tensor_parallel=*/4);
    ASSERT_TRUE(prefill.Reserve().ok());
    prefill.Open();
    prefill.MakeAllReady();
    {
      std::unique_lock<std::mutex> lock(mutex);
      EXPECT_TRUE(changed.wait_for(lock, kPatience, [&] { return written >= round; }));
    }
    prefill.handoff.reset();
    EXPECT_TRUE(WaitUntil([&] { return decode.target.num_live() == 0; }));
    EXPECT_TRUE(WaitUntil([&] { return prefill.staging_is_free(); }));
    std::lock_guard<std::mutex> lock(mutex);
    written = 0;
  }
  auto shut_down =
      std::async(std::launch::async, [&] { decode.server->Shutdown(absl::ZeroDuration()); });
  if (shut_down.wait_for(kPatience) != std::future_status::ready)
    std::abort();  // a reactor that never ends
}

TEST(KvTransferTest, AFailureOnTheDecodeSideReachesTheCommit) {
  DecodeSide decode(SmallPlan());
  PrefillSide prefill(SmallPlan(), decode.server->address());
  const auto grant = prefill.Reserve();
  ASSERT_TRUE(grant.ok());
  prefill.Open();
  prefill.MakeReady(0, 0);
  decode.core.Fail(grant->reservation_id, absl::DataLossError("a broken memory"));
  for (int layer = 1; layer < 4; ++layer) prefill.MakeReady(0, layer);
  EXPECT_EQ(prefill.Commit().status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(decode.num_activated(), 0);
}

TEST(KvTransferTest, AnIdleReservationIsRenewedUntilItIsDropped) {
  constexpr absl::Duration kTtl = absl::Milliseconds(90);
  DecodeSide decode(SmallPlan(), 1000, kTtl);
  PrefillSide prefill(SmallPlan(), decode.server->address());
  const auto grant = prefill.Reserve();
  ASSERT_TRUE(grant.ok());
  for (int lease = 0; lease < 4; ++lease) {  // the table's clock moves only here
    decode.clock.Advance(kTtl - absl::Milliseconds(1));
    EXPECT_TRUE(WaitUntil([&] { return decode.core.Status(grant->reservation_id)->ttl == kTtl; }));
  }
  prefill.handoff.reset();
  EXPECT_TRUE(WaitUntil([&] { return decode.target.num_live() == 0; }));
}

// The wire as another implementation would speak it: plain protobuf.
class PlainProtobufTest : public ::testing::Test {
 protected:
  PlainProtobufTest()
      : stub_(v1::KvTransferService::NewStub(*MakeChannel(decode_.server->address()))) {
    v1::ReserveRequest request;
    *request.mutable_identity() = Identity();
    *request.mutable_plan() = ToProto(prompt_.plan());
    request.set_max_tokens(kMaxTokens);
    request.set_num_streams(1);
    v1::ReserveResponse response;
    grpc::ClientContext context;
    EXPECT_TRUE(stub_->Reserve(&context, request, &response).ok());
    id_ = response.reservation_id();
    EXPECT_EQ(response.wire_version(), kWireVersion);
  }

  static v1::TransferIdentity Identity() {
    v1::TransferIdentity identity;
    identity.set_request_id("request");
    identity.set_attempt(1);
    identity.set_source_incarnation(5);
    identity.set_target_incarnation(7);
    identity.set_layout_digest("layout");
    identity.set_wire_version(kWireVersion);
    return identity;
  }
  v1::PushRequest OpenMessage() const {
    v1::PushRequest message;
    *message.mutable_open()->mutable_identity() = Identity();
    message.mutable_open()->set_reservation_id(id_);
    return message;
  }
  // Parsed from the hand-made framing, so that protobuf agrees that it is one of its messages.
  v1::PushRequest ChunkMessage(ChunkKind kind, int layer, int head, uint64_t sequence) {
    const auto [header, payload] =
        prompt_.Chunk(kind, layer, head, 0, prompt_.plan().entries(layer), sequence);
    summary_ = {sequence + 1, ExtendStreamCrc(summary_.crc32c, header.crc32c)};
    v1::PushRequest message;
    const std::string wire =
        EncodePrefix(header) +
        std::string(reinterpret_cast<const char*>(payload.data()), payload.size());
    EXPECT_TRUE(message.ParseFromString(wire));
    EXPECT_EQ(message.header(0).size(), static_cast<size_t>(kChunkHeaderBytes));
    EXPECT_EQ(message.payload(0).size(), payload.size());
    return message;
  }
  // Sends messages, each after the acknowledgement of the one before; what the stream ends with.
  absl::Status Push(const std::vector<v1::PushRequest>& messages) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + kPatience);
    auto stream = stub_->Push(&context);
    acknowledged_ = 0;
    for (size_t i = 0; i < messages.size(); ++i) {
      v1::PushResponse response;
      if (!stream->Write(messages[i]) || (i > 0 && !stream->Read(&response))) break;
      acknowledged_ = response.acknowledged_sequence();
    }
    stream->WritesDone();
    return FromGrpcStatus(stream->Finish(), context);
  }
  std::vector<v1::PushRequest> WholePlan() {
    std::vector<v1::PushRequest> messages = {OpenMessage()};
    for (ChunkKind kind : {ChunkKind::kKeys, ChunkKind::kValues, ChunkKind::kPositions}) {
      for (int layer = 0; layer < prompt_.plan().num_layers; ++layer) {
        for (int head = 0; head < RowsOf(prompt_.plan(), kind, layer); ++head) {
          messages.push_back(ChunkMessage(kind, layer, head, messages.size() - 1));
        }
      }
    }
    return messages;
  }
  v1::CommitRequest CommitMessage() const {
    v1::CommitRequest request;
    *request.mutable_identity() = Identity();
    request.set_reservation_id(id_);
    request.set_num_prompt_tokens(40);
    request.set_next_position(40);
    request.add_tokens(3);
    *request.mutable_sampling() = ToProto(SamplingParams{.max_tokens = kMaxTokens});
    for (int layer = 0; layer < 4; ++layer)
      request.add_entries_per_layer(prompt_.plan().entries(layer));
    v1::StreamSummary* summary = request.add_streams();
    summary->set_num_chunks(summary_.num_chunks);
    summary->set_crc32c(summary_.crc32c);
    return request;
  }
  absl::StatusOr<int64_t> Commit(const v1::CommitRequest& request) {
    grpc::ClientContext context;
    v1::CommitResponse response;
    const absl::Status status =
        FromGrpcStatus(stub_->Commit(&context, request, &response), context);
    if (!status.ok()) return status;
    return response.kv_payload_bytes();
  }
  ReservationStatus Status() {
    const auto status = decode_.core.Status(id_);
    EXPECT_TRUE(status.ok()) << status.status();
    return *status;
  }

  const PromptKv prompt_{SmallPlan()};
  DecodeSide decode_{SmallPlan()};
  std::unique_ptr<v1::KvTransferService::Stub> stub_;
  std::string id_;
  uint64_t acknowledged_ = 0;
  StreamSummary summary_;
};

TEST_F(PlainProtobufTest, MovesAWholePlanAndRepeatsTheCommitsAnswer) {
  const auto messages = WholePlan();
  ASSERT_EQ(Push(messages), absl::OkStatus());
  EXPECT_EQ(acknowledged_, messages.size() - 1);
  EXPECT_EQ(Status().state, SequenceState::kReceiving);
  const int64_t bytes = prompt_.plan().payload_bytes(kElementBytes);
  EXPECT_EQ(Status().received_payload_bytes, bytes);
  EXPECT_EQ(Status().ttl, absl::Seconds(20));
  for (int times = 0; times < 2; ++times) {
    const auto committed = Commit(CommitMessage());
    ASSERT_TRUE(committed.ok()) << committed.status();
    EXPECT_EQ(*committed, bytes);
  }
  EXPECT_EQ(decode_.num_activated(), 1);
  EXPECT_EQ(decode_.target.CountWrongSlots(decode_.FirstStep().handle, prompt_), 0);
  EXPECT_EQ(Status().state, SequenceState::kDecoding);
}

TEST_F(PlainProtobufTest, ADamagedChunkIsDataLossAndEndsTheReservation) {
  std::vector<v1::PushRequest> messages = {OpenMessage(), ChunkMessage(ChunkKind::kKeys, 0, 0, 0),
                                           ChunkMessage(ChunkKind::kKeys, 0, 1, 1)};
  (*messages[2].mutable_payload(0))[5] ^= 0x10;
  EXPECT_EQ(Push(messages).code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(decode_.target.num_live(), 0);
  EXPECT_EQ(Status().state, SequenceState::kFailed);
  EXPECT_EQ(Commit(CommitMessage()).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(Push({OpenMessage()}).code(), absl::StatusCode::kDataLoss);
}

TEST_F(PlainProtobufTest, AStreamMustOpenFirstAndAsWhoReserved) {
  EXPECT_EQ(Push({ChunkMessage(ChunkKind::kKeys, 0, 0, 0)}).code(),
            absl::StatusCode::kInvalidArgument);
  v1::PushRequest stranger = OpenMessage();
  stranger.mutable_open()->mutable_identity()->set_source_incarnation(6);
  EXPECT_EQ(Push({stranger}).code(), absl::StatusCode::kFailedPrecondition);
  v1::PushRequest unknown = OpenMessage();
  unknown.mutable_open()->set_reservation_id(std::string(16, 'x'));
  EXPECT_EQ(Push({unknown}).code(), absl::StatusCode::kNotFound);
  // None of this harms the reservation.
  EXPECT_EQ(Push({OpenMessage(), ChunkMessage(ChunkKind::kKeys, 0, 0, 0)}), absl::OkStatus());
  EXPECT_EQ(acknowledged_, 1u);
}

TEST_F(PlainProtobufTest, ACommitNamesItsStreamsInOrder) {
  ASSERT_EQ(Push(WholePlan()), absl::OkStatus());
  v1::CommitRequest request = CommitMessage();
  request.mutable_streams(0)->set_stream(1);
  EXPECT_EQ(Commit(request).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(Commit(CommitMessage()).ok());
}

TEST_F(PlainProtobufTest, APlanThatContradictsItselfIsInvalid) {
  v1::ReserveRequest request;
  *request.mutable_identity() = Identity();
  *request.mutable_plan() = ToProto(prompt_.plan());
  request.mutable_plan()->mutable_segments(1)->set_entries(41);
  request.set_max_tokens(kMaxTokens);
  request.set_num_streams(1);
  v1::ReserveResponse response;
  grpc::ClientContext context;
  EXPECT_EQ(stub_->Reserve(&context, request, &response).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
}

}  // namespace
}  // namespace winnow
