// The router's gRPC shell on loopback, with fake workers.
#include "router/generation_service.h"

#include <future>
#include <thread>

#include "common/retry_hint.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "rpc/channel.h"
#include "rpc/grpc_deadline.h"
#include "rpc/grpc_status.h"
#include "rpc/server.h"
#include "rpc/trace_metadata.h"
#include "tests/router/fake_timer.h"
#include "tests/router/fake_workers.h"

namespace winnow {
namespace {

using ::testing::HasSubstr;

class GenerationServiceTest : public ::testing::Test {
 protected:
  void Serve(const FrontDoor::Options& options) {
    auto tokenizer = Tokenizer::Create(std::string(WINNOW_SOURCE_DIR) + "/models/demo");
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = *std::move(tokenizer);
    const GenerationParts parts{*tokenizer_, workers_, registry_, clock_, timer_, metrics_};
    door_ = std::make_unique<FrontDoor>(parts, executor_, nullptr, options);
    service_ = std::make_unique<GenerationService>(*door_, clock_);
    auto server = StartServer({.services = {service_.get()}});
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    stub_ = v1::GenerationService::NewStub(*MakeChannel(server_->address()));
  }
  // How a call ends that has a prompt of so many bytes.
  absl::Status Ask(size_t bytes) {
    grpc::ClientContext context;
    SetDeadline(context, Deadline::After(clock_, absl::Seconds(20)), clock_);
    v1::GenerateRequest request;
    request.set_raw(std::string(bytes, 'a'));
    const auto stream = stub_->Generate(&context, request);
    v1::GenerateResponse event;
    while (stream->Read(&event)) {
    }
    return FromGrpcStatus(stream->Finish(), context);
  }

  RealClock clock_;
  FakeWorkers workers_;
  FakeTimer timer_;
  WorkerRegistry registry_{workers_, clock_, {}, {}};  // knows nobody: what is taken fails
  MetricsRegistry metrics_registry_;
  RouterMetrics metrics_{metrics_registry_};
  std::unique_ptr<Tokenizer> tokenizer_;
  Executor executor_{"tokenize", 1};
  std::unique_ptr<FrontDoor> door_;
  std::unique_ptr<GenerationService> service_;
  std::unique_ptr<RpcServer> server_;
  std::unique_ptr<v1::GenerationService::Stub> stub_;
};

TEST_F(GenerationServiceTest, ARefusalReachesTheClientWithItsHint) {
  Serve({.max_running_bytes = 3000});
  // Holds the executor, so that what is taken goes on running.
  std::promise<void> go_on;
  executor_.Add([held = go_on.get_future().share()] { held.wait(); });
  std::future<absl::Status> first = std::async([&] { return Ask(2000); });
  while (door_->num_running() == 0) std::this_thread::yield();
  const absl::Status refused = Ask(1000);
  EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("more than 3000"));
  EXPECT_TRUE(GetRetryAfter(refused).has_value());
  EXPECT_EQ(door_->num_running(), 1);
  go_on.set_value();
  EXPECT_TRUE(absl::IsUnavailable(first.get()));
  // Its slots are given back.
  EXPECT_TRUE(absl::IsUnavailable(Ask(2000)));
}

TEST_F(GenerationServiceTest, TheTraceComesBackAlsoFromARefusal) {
  Serve({});
  door_->Drain();
  grpc::ClientContext context;
  const TraceContext callers = TraceContext::New();
  SendTrace(context, callers);
  const auto stream = stub_->Generate(&context, {});
  EXPECT_TRUE(absl::IsUnavailable(FromGrpcStatus(stream->Finish(), context)));
  EXPECT_EQ(TraceReturned(context), callers.trace_id);
}

TEST_F(GenerationServiceTest, AClientThatLeavesBeforeItsRequestRunsFreesItsSlot) {
  Serve({});
  std::promise<void> go_on;
  executor_.Add([held = go_on.get_future().share()] { held.wait(); });
  grpc::ClientContext context;
  v1::GenerateRequest request;
  request.set_raw("hello");
  const auto stream = stub_->Generate(&context, request);
  while (door_->num_running() == 0) std::this_thread::yield();
  context.TryCancel();
  EXPECT_TRUE(absl::IsCancelled(FromGrpcStatus(stream->Finish(), context)));
  go_on.set_value();
  while (door_->num_running() > 0) std::this_thread::yield();
}

}  // namespace
}  // namespace winnow
