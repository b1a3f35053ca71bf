#include "rpc/server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

#include "common/retry_hint.h"
#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/support/byte_buffer.h"
#include "rpc/channel.h"
#include "rpc/grpc_deadline.h"
#include "rpc/grpc_status.h"
#include "tests/testing/fake_clock.h"
#include "winnow/v1/model.grpc.pb.h"

namespace winnow {
namespace {

using ::testing::StartsWith;

// Answers with one status and remembers the deadline it saw.
class FakeModelService final : public v1::ModelService::CallbackService {
 public:
  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context,
                                       const v1::ListModelsRequest*,
                                       v1::ListModelsResponse* response) override {
    seen_left = DeadlineOf(*context, clock).Remaining(clock);
    response->add_models()->set_id(std::string(response_bytes, 'm'));
    auto* reactor = context->DefaultReactor();
    reactor->Finish(ToGrpcStatus(answer, *context));
    return reactor;
  }

  RealClock clock;
  absl::Status answer;
  size_t response_bytes = 1;
  absl::Duration seen_left;
};

struct Fixture {
  FakeModelService service;
  RealClock clock;
  std::unique_ptr<RpcServer> server;
  std::shared_ptr<grpc::Channel> channel;

  explicit Fixture(int client_max_message_bytes = 1 << 20) {
    auto started = StartServer({.services = {&service}});
    EXPECT_TRUE(started.ok()) << started.status();
    server = std::move(*started);
    channel = *MakeChannel(server->address(),
                           {.own_connection = true, .max_message_bytes = client_max_message_bytes});
  }

  absl::Status ListModels(Deadline deadline) {
    grpc::ClientContext context;
    SetDeadline(context, deadline, clock);
    v1::ListModelsResponse response;
    const auto status = v1::ModelService::NewStub(channel)->ListModels(&context, {}, &response);
    return FromGrpcStatus(status, context);
  }

  // The health service's answer in its wire form: field 1, varint. Or what it refuses with.
  std::string Health(const std::string& service = "") {
    grpc::GenericStub stub(channel);
    grpc::ClientContext context;
    SetDeadline(context, Deadline::After(clock, absl::Seconds(10)), clock);
    // HealthCheckRequest: field 1, the service's name.
    const grpc::Slice name("\x0a" + std::string(1, static_cast<char>(service.size())) + service);
    const grpc::ByteBuffer request(&name, 1);
    grpc::ByteBuffer response;
    std::promise<grpc::Status> done;
    stub.UnaryCall(&context, "/grpc.health.v1.Health/Check", {}, &request, &response,
                   [&](grpc::Status status) { done.set_value(std::move(status)); });
    const grpc::Status status = done.get_future().get();
    if (!status.ok()) return status.error_message();
    grpc::Slice slice;
    EXPECT_TRUE(response.DumpToSingleSlice(&slice).ok());
    return std::string(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
};

TEST(RpcServerTest, ChoosesAPortOnLoopbackAndAnswers) {
  Fixture f;
  EXPECT_GT(f.server->port(), 0);
  EXPECT_EQ(f.server->address(), "127.0.0.1:" + std::to_string(f.server->port()));
  EXPECT_EQ(f.ListModels(Deadline::After(f.clock, absl::Seconds(10))), absl::OkStatus());
}

TEST(RpcServerTest, CarriesStatusAndRetryHintToTheClient) {
  Fixture f;
  f.service.answer = absl::ResourceExhaustedError("queue is full: 8 of 8");
  SetRetryAfter(f.service.answer, absl::Milliseconds(250));
  const absl::Status got = f.ListModels(Deadline::After(f.clock, absl::Seconds(10)));
  EXPECT_EQ(got.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(std::string(got.message()), "queue is full: 8 of 8");
  EXPECT_EQ(GetRetryAfter(got), absl::Milliseconds(250));
}

TEST(RpcServerTest, CarriesTheDeadlineThoughOurClockIsNotSystemTime) {
  Fixture f;
  FakeClock fake;  // 1970
  grpc::ClientContext context;
  SetDeadline(context, Deadline::After(fake, absl::Seconds(100)), fake);
  v1::ListModelsResponse response;
  ASSERT_TRUE(v1::ModelService::NewStub(f.channel)->ListModels(&context, {}, &response).ok());
  // gRPC rounds a deadline of this size up to a whole second on the wire.
  EXPECT_LE(f.service.seen_left, absl::Seconds(101));
  EXPECT_GT(f.service.seen_left, absl::Seconds(60));
}

TEST(RpcServerTest, NoDeadlineIsInfinite) {
  Fixture f;
  EXPECT_EQ(f.ListModels(Deadline::Infinite()), absl::OkStatus());
  EXPECT_EQ(f.service.seen_left, absl::InfiniteDuration());
}

TEST(RpcServerTest, RefusesAPortThatIsTaken) {
  Fixture f;
  const auto second = StartServer({.listen = f.server->address()});
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.status().message()),
              StartsWith("gRPC server: cannot listen on 127.0.0.1:"));
}

constexpr char kServing[] = "\x08\x01";
constexpr char kNotServing[] = "\x08\x02";

TEST(RpcServerTest, ReadinessFollowsSetServing) {
  Fixture f;
  for (const std::string service : {"", kReadinessService}) {
    EXPECT_EQ(f.Health(service), kNotServing);
    f.server->SetServing(true);
    EXPECT_EQ(f.Health(service), kServing);
    f.server->SetServing(false);
    EXPECT_EQ(f.Health(service), kNotServing);
  }
}

TEST(RpcServerTest, LivenessDoesNot) {
  Fixture f;
  for (const bool serving : {false, true, false}) {
    f.server->SetServing(serving);
    EXPECT_EQ(f.Health(kLivenessService), kServing);
  }
}

TEST(RpcServerTest, HealthOfAnotherNameIsUnknown) {
  Fixture f;
  EXPECT_THAT(f.Health("worker"), testing::AllOf(testing::Ne(kServing), testing::Ne(kNotServing)));
}

TEST(RpcServerTest, AfterShutdownCallsAreUnavailable) {
  Fixture f;
  f.server->Shutdown(absl::InfiniteDuration());  // nothing runs, so it returns at once
  f.server->Shutdown(absl::ZeroDuration());
  EXPECT_EQ(f.ListModels(Deadline::After(f.clock, absl::Seconds(10))).code(),
            absl::StatusCode::kUnavailable);
}

TEST(ChannelTest, LimitsMessageSize) {
  Fixture f(/*client_max_message_bytes=*/1024);
  f.service.response_bytes = 2048;
  EXPECT_EQ(f.ListModels(Deadline::After(f.clock, absl::Seconds(10))).code(),
            absl::StatusCode::kResourceExhausted);
}

TEST(ChannelTest, RefusesWhatIsNotAnAddress) {
  EXPECT_EQ(MakeChannel("localhost").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(MakeChannel("localhost:0").status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace winnow
