// The decode worker behind a real gRPC server on loopback: core, paged KV and service are the real
// ones, only the engine computes nothing.
#include "decode_worker/decode_service.h"

#include "decode_worker/paged_kv_target.h"
#include "engine/device/ref_backend.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "plan/selection_config.h"
#include "rpc/channel.h"
#include "rpc/grpc_status.h"
#include "rpc/server.h"
#include "tests/decode_worker/fake_decode.h"
#include "tests/testing/fake_clock.h"
#include "transfer/chunk_codec.h"

namespace winnow {
namespace {

using ::testing::ElementsAre;
using ::testing::SizeIs;

constexpr int kPromptTokens = 10;  // what FakeDecodeEngine::Next counts from
constexpr int64_t kBlocks = 8;

class DecodeServiceTest : public ::testing::Test {
 protected:
  DecodeServiceTest() {
    kv_ = *PagedKv::Create(
        {.shape = engine_.shape(), .backends = {&backend_}, .num_blocks = kBlocks});
    core_ = std::make_unique<DecodeCore>(
        std::make_unique<LoggedTarget>(std::make_unique<PagedKvTarget>(*kv_), released_), engine_,
        clock_, events_,
        DecodeCore::Options{.reservations = {.shape = engine_.shape(),
                                             .kv_element_bytes = 4,
                                             .layout_digest = "layout",
                                             .incarnation = 9}});
    v1::WorkerInfo info;
    info.set_model_id("fake");
    service_ = std::make_unique<DecodeService>(*core_, clock_, info);
    auto started = StartServer({.services = {service_.get()}});
    EXPECT_TRUE(started.ok()) << started.status();
    server_ = *std::move(started);
    stub_ = v1::DecodeService::NewStub(*MakeChannel(server_->address(), {.own_connection = true}));
  }
  ~DecodeServiceTest() override {
    engine_.Run();
    server_->Shutdown(absl::ZeroDuration());
  }

  static TransferIdentity Identity() {
    return {.request_id = "request",
            .attempt = 2,
            .source_incarnation = 5,
            .layout_digest = "layout",
            .wire_version = kWireVersion};
  }
  KvPlan Plan() const {
    return MakePrefillPlan(engine_.shape(), {.policy = &kFullPolicy}, kPromptTokens).kv;
  }
  std::string Reserve(int max_tokens) {
    const auto grant = core_->Reserve({Identity(), Plan(), max_tokens, /*num_streams=*/1});
    EXPECT_TRUE(grant.ok()) << grant.status();
    return grant->reservation_id;
  }
  // Sends the prompt's KV and commits.
  void Commit(const std::string& id, int max_tokens, std::vector<int32_t> tokens = {5}) {
    TransferIdentity identity = Identity();
    identity.target_incarnation = 9;
    ASSERT_TRUE(core_->OpenStream(id, identity, 0).ok());
    const std::vector<std::byte> payload(kPromptTokens * 4 * 4);
    StreamSummary summary;
    for (ChunkKind kind : {ChunkKind::kKeys, ChunkKind::kValues}) {
      ChunkHeader header{.kind = kind,
                         .attempt = 2,
                         .sequence = summary.num_chunks,
                         .slot_count = kPromptTokens,
                         .payload_bytes = static_cast<uint32_t>(payload.size())};
      SealChunk(header, payload.data());
      const auto ack = core_->OnChunk(id, 0, header, payload.data());
      ASSERT_TRUE(ack.ok()) << ack.status();
      summary = {summary.num_chunks + 1, ExtendStreamCrc(summary.crc32c, header.crc32c)};
    }
    const auto bytes = core_->Commit({.identity = identity,
                                      .reservation_id = id,
                                      .num_prompt_tokens = kPromptTokens,
                                      .next_position = kPromptTokens,
                                      .tokens = std::move(tokens),
                                      .sampling = {.max_tokens = max_tokens},
                                      .entries_per_layer = {kPromptTokens},
                                      .streams = {summary}});
    ASSERT_TRUE(bytes.ok()) << bytes.status();
  }

  // One Decode call.
  struct Stream {
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientReader<v1::DecodeResponse>> reader;

    // The next token as "index:id", with " stop" and " last"; "" at the end.
    std::string Next() {
      v1::DecodeResponse token;
      if (!reader->Read(&token)) return "";
      return absl::StrCat(token.index(), ":", token.id(), token.is_stop() ? " stop" : "",
                          token.is_last() ? " last" : "");
    }
    // What is left, then how the call ended.
    std::vector<std::string> Rest() {
      std::vector<std::string> all;
      for (std::string token = Next(); !token.empty(); token = Next()) all.push_back(token);
      const absl::Status status = FromGrpcStatus(reader->Finish());
      all.push_back(absl::StrCat("end ", absl::StatusCodeToString(status.code())));
      return all;
    }
  };
  std::unique_ptr<Stream> Decode(const std::string& id, int32_t from_index = 1,
                                 uint32_t attempt = 2,
                                 std::chrono::milliseconds timeout = kPatience) {
    auto stream = std::make_unique<Stream>();
    stream->context.set_deadline(std::chrono::system_clock::now() + timeout);
    v1::DecodeRequest request;
    request.set_request_id("request");
    request.set_attempt(attempt);
    request.set_reservation_id(id);
    request.set_from_index(from_index);
    stream->reader = stub_->Decode(&stream->context, request);
    return stream;
  }
  absl::Status Abort(const std::string& id) {
    grpc::ClientContext context;
    v1::AbortDecodeRequest request;
    request.set_reservation_id(id);
    v1::AbortDecodeResponse response;
    return FromGrpcStatus(stub_->AbortDecode(&context, request, &response));
  }
  v1::WorkerInfo Info() {
    grpc::ClientContext context;
    v1::GetDecodeInfoResponse response;
    EXPECT_TRUE(stub_->GetDecodeInfo(&context, {}, &response).ok());
    return response.info();
  }

  FakeClock clock_;
  DecodeEvents events_;
  FakeDecodeEngine engine_;
  RefBackend backend_{DType::kF32};
  ReleaseLog released_;
  std::unique_ptr<PagedKv> kv_;
  std::unique_ptr<DecodeCore> core_;
  std::unique_ptr<DecodeService> service_;
  std::unique_ptr<RpcServer> server_;
  std::unique_ptr<v1::DecodeService::Stub> stub_;
};

TEST_F(DecodeServiceTest, StreamsACommittedReservationAndFreesIt) {
  const std::string id = Reserve(4);
  EXPECT_EQ(kv_->free_blocks(), kBlocks - 1);
  Commit(id, 4);
  EXPECT_THAT(Decode(id)->Rest(), ElementsAre("1:101", "2:102", "3:103 last", "end OK"));
  released_.Wait(1);
  EXPECT_EQ(kv_->free_blocks(), kBlocks);
  EXPECT_EQ(core_->num_active(), 0);
  EXPECT_THAT(Decode(id, 3)->Rest(),
              ElementsAre("3:103 last", "end OK"));  // for a client that lost the end
}

TEST_F(DecodeServiceTest, AnEndedReservationIsNotFound) {
  engine_.Hold();
  const std::string id = Reserve(4);
  Commit(id, 4);
  EXPECT_TRUE(Abort(id).ok());
  engine_.Run();
  released_.Wait(1);
  EXPECT_THAT(Decode(id)->Rest(), ElementsAre("end NOT_FOUND"));
}

TEST_F(DecodeServiceTest, AStreamOpenedBeforeTheCommitWaitsForIt) {
  const std::string id = Reserve(3);
  const auto stream = Decode(id);
  Commit(id, 3);
  EXPECT_THAT(stream->Rest(), ElementsAre("1:101", "2:102 last", "end OK"));
}

TEST_F(DecodeServiceTest, ForcedTokensContinueAtTheirIndex) {
  const std::string id = Reserve(6);
  Commit(id, 6, {5, 6, 7, 8});
  EXPECT_THAT(Decode(id, 4)->Rest(), ElementsAre("4:104", "5:105 last", "end OK"));
}

TEST_F(DecodeServiceTest, AWaitingStreamEndsAtItsDeadline) {
  const std::string id = Reserve(3);
  EXPECT_THAT(Decode(id, 1, 2, std::chrono::milliseconds(100))->Rest(),
              ElementsAre("end DEADLINE_EXCEEDED"));
  EXPECT_EQ(core_->num_active(), 1);  // the lease decides about the reservation
}

TEST_F(DecodeServiceTest, WrongCallsAreRefusedWithTheirCodes) {
  EXPECT_THAT(Decode("unknown")->Rest(), ElementsAre("end NOT_FOUND"));
  engine_.Hold();
  const std::string id = Reserve(3);
  Commit(id, 3);
  EXPECT_THAT(Decode(id, /*from_index=*/-1)->Rest(), ElementsAre("end INVALID_ARGUMENT"));
  EXPECT_THAT(Decode(id, std::numeric_limits<int32_t>::min())->Rest(),
              ElementsAre("end INVALID_ARGUMENT"));
  EXPECT_THAT(Decode(id, 1, /*attempt=*/1)->Rest(), ElementsAre("end FAILED_PRECONDITION"));
  engine_.Run();
  EXPECT_THAT(Decode(id)->Rest(), ElementsAre("1:101", "2:102 last", "end OK"));
}

TEST_F(DecodeServiceTest, ADroppedStreamMayBeOpenedAgain) {
  engine_.Hold();
  const std::string id = Reserve(5);
  Commit(id, 5);
  auto dropped = Decode(id);
  engine_.Allow(2);
  EXPECT_EQ(dropped->Next(), "1:101");
  dropped->context.TryCancel();
  EXPECT_EQ(dropped->Rest().back(), "end CANCELLED");
  const auto again = Decode(id, 2);
  engine_.Run();
  EXPECT_THAT(again->Rest(), ElementsAre("2:102", "3:103", "4:104 last", "end OK"));
}

TEST_F(DecodeServiceTest, ADroppedStreamThatStaysAwayFreesItsBlocks) {
  engine_.Hold();
  const std::string id = Reserve(100);
  Commit(id, 100);
  const auto dropped = Decode(id);
  engine_.Allow(1);
  EXPECT_EQ(dropped->Next(), "1:101");
  dropped->context.TryCancel();
  dropped->Rest();
  // The server learns of the cancel in its own time; five seconds count from then.
  while (!released_.WaitFor(std::chrono::milliseconds(5)) && engine_.steps().size() < 99) {
    clock_.Advance(absl::Seconds(6));
    engine_.Allow(1);
  }
  EXPECT_THAT(released_.Wait(1), ElementsAre(1));
  EXPECT_EQ(kv_->free_blocks(), kBlocks);
  EXPECT_LT(engine_.steps().size(), 99u);  // not because it was finished
}

TEST_F(DecodeServiceTest, AbortEndsTheStreamAndFreesAtOnce) {
  engine_.Hold();
  const std::string id = Reserve(100);
  Commit(id, 100);
  const auto stream = Decode(id);
  engine_.Allow(1);
  EXPECT_EQ(stream->Next(), "1:101");
  EXPECT_TRUE(Abort(id).ok());
  engine_.Run();
  EXPECT_EQ(stream->Rest().back(), "end CANCELLED");
  EXPECT_THAT(released_.Wait(1), ElementsAre(1));
  EXPECT_EQ(kv_->free_blocks(), kBlocks);
  EXPECT_TRUE(Abort(id).ok());
  EXPECT_TRUE(Abort("unknown").ok());
}

TEST_F(DecodeServiceTest, AWaitingStreamHearsThatThePrefillWorkerGaveUp) {
  const std::string id = Reserve(3);
  const auto stream = Decode(id);
  TransferIdentity identity = Identity();
  identity.target_incarnation = 9;
  EXPECT_TRUE(core_->Abort(id, identity, "stop id").ok());
  // NOT_FOUND if the call arrives after the abort.
  EXPECT_THAT(stream->Rest(), ElementsAre(::testing::AnyOf("end ABORTED", "end NOT_FOUND")));
  EXPECT_EQ(kv_->free_blocks(), kBlocks);
}

TEST_F(DecodeServiceTest, AnEngineFailureIsInternal) {
  engine_.Hold();
  const std::string id = Reserve(10);
  Commit(id, 10);
  const auto stream = Decode(id);
  engine_.Allow(1);
  EXPECT_EQ(stream->Next(), "1:101");
  engine_.FailNext(absl::UnavailableError("a rank is gone"));
  engine_.Run();
  EXPECT_THAT(stream->Rest(), ElementsAre("end INTERNAL"));
  released_.Wait(1);
  EXPECT_EQ(kv_->free_blocks(), kBlocks);
}

TEST_F(DecodeServiceTest, AReaderThatDoesNotReadDelaysNobody) {
  const std::string slow_id = Reserve(80), quick_id = Reserve(4);
  Commit(slow_id, 80);
  const auto slow = Decode(slow_id);
  Commit(quick_id, 4);
  EXPECT_THAT(Decode(quick_id)->Rest(), ElementsAre("1:201", "2:202", "3:203 last", "end OK"));
  released_.Wait(2);  // the slow one's KV is freed too: its tokens wait in the stream
  EXPECT_EQ(kv_->free_blocks(), kBlocks);
  const std::vector<std::string> all = slow->Rest();
  EXPECT_THAT(all, SizeIs(80));
  EXPECT_EQ(all[78], "79:179 last");
}

TEST_F(DecodeServiceTest, InfoTellsCapacityAndLoad) {
  EXPECT_EQ(Info().kv_blocks_total(), kBlocks);
  EXPECT_EQ(Info().kv_blocks_free(), kBlocks);
  EXPECT_EQ(Info().model_id(), "fake");
  engine_.Hold();
  const std::string id = Reserve(20);  // 29 entries
  Commit(id, 20);
  EXPECT_EQ(Info().kv_blocks_free(), kBlocks - 2);
  EXPECT_EQ(Info().queue_depth(), 1);
}

}  // namespace
}  // namespace winnow
