// Workers and routers, each with its side of the registration, over real connections.
#include "worker/worker_registration.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "router/worker_registry_service.h"
#include "rpc/channel.h"
#include "rpc/grpc_deadline.h"
#include "rpc/grpc_status.h"
#include "rpc/server.h"
#include "tests/rpc/test_certificates.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/wait_until.h"

namespace winnow {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

v1::WorkerInfo Info() {
  v1::WorkerInfo info;
  info.set_address("127.0.0.1:7");
  info.set_role(v1::WORKER_ROLE_DECODE);
  info.set_incarnation(5);
  info.set_layout_digest("layout");
  return info;
}

// The part of a router that takes registrations.
struct FakeRouter {
  FakeClock clock;
  RegisteredWorkers workers{clock, {}};
  WorkerRegistryService service{workers};
  std::unique_ptr<RpcServer> server;

  void Start(const ServerSecurity& security = {}, const std::string& listen = "127.0.0.1:0") {
    auto started = StartServer({.listen = listen, .services = {&service}, .security = security});
    ASSERT_TRUE(started.ok()) << started.status();
    server = std::move(*started);
  }
  bool Knows() { return workers.Workers() == std::vector{kWorker}; }
  inline static const WorkerAddress kWorker{"127.0.0.1:7", v1::WORKER_ROLE_DECODE};
};

absl::Status Register(const std::string& router, const TlsFiles& tls) {
  RealClock clock;
  const auto channel = MakeChannel(router, {.own_connection = true, .tls = tls});
  if (!channel.ok()) return channel.status();
  grpc::ClientContext context;
  SetDeadline(context, Deadline::After(clock, absl::Seconds(10)), clock);
  v1::RegisterRequest request;
  *request.mutable_info() = Info();
  request.set_ttl_ms(10'000);
  v1::RegisterResponse response;
  const auto status =
      v1::WorkerRegistryService::NewStub(*channel)->Register(&context, request, &response);
  return FromGrpcStatus(status, context);
}

class WorkerRegistrationTest : public ::testing::Test {
 protected:
  void Work(const std::vector<std::string>& routers, absl::Duration ttl = absl::Seconds(20)) {
    list_ = std::make_unique<AddressList>(routers, resolver_, absl::Hours(1));
    registration_ = std::make_unique<WorkerRegistration>(
        *list_, clock_,
        WorkerRegistration::Options{.info = Info(), .ttl = ttl, .retry = absl::Milliseconds(20)});
  }
  RealClock clock_;
  SystemResolver resolver_;
  FakeRouter a_, b_;
  std::unique_ptr<AddressList> list_;
  std::unique_ptr<WorkerRegistration> registration_;
};

TEST_F(WorkerRegistrationTest, EveryRouterKnowsTheWorkerUntilItLeaves) {
  a_.Start();
  b_.Start();
  Work({a_.server->address(), b_.server->address()});
  EXPECT_TRUE(WaitUntil([this] { return a_.Knows() && b_.Knows(); }));
  registration_.reset();
  EXPECT_THAT(a_.workers.Workers(), IsEmpty());
  EXPECT_THAT(b_.workers.Workers(), IsEmpty());
}

TEST_F(WorkerRegistrationTest, ARouterThatComesLaterIsFoundAndTheOthersDoNotWait) {
  a_.Start();
  b_.Start();
  const std::string later = b_.server->address();
  b_.server.reset();
  Work({later, a_.server->address()});
  EXPECT_TRUE(WaitUntil([this] { return a_.Knows(); }));
  b_.Start({}, later);
  EXPECT_TRUE(WaitUntil([this] { return b_.Knows(); }));
}

TEST_F(WorkerRegistrationTest, ALeaseIsRenewedAgainAndAgain) {
  a_.Start();
  Work({a_.server->address()}, absl::Milliseconds(30));
  for (int i = 0; i < 4; ++i) {
    EXPECT_TRUE(WaitUntil([this] { return a_.Knows(); }));
    a_.clock.Advance(absl::Minutes(5));  // whatever lease it had is over
  }
}

TEST_F(WorkerRegistrationTest, WhoShowsACertificateOfTheAuthorityMayRegister) {
  TestCertificates ours;
  a_.Start({.tls = ours.all()});
  EXPECT_EQ(Register(a_.server->address(), ours.all()), absl::OkStatus());
  EXPECT_FALSE(Register(a_.server->address(), ours.authority()).ok());
}

TEST(AdvertisedAddressTest, IsOneThatOthersCanConnectTo) {
  EXPECT_EQ(*AdvertisedAddress("", "127.0.0.1:5"), "127.0.0.1:5");
  EXPECT_EQ(*AdvertisedAddress("10.0.0.1:5", "0.0.0.0:5"), "10.0.0.1:5");
  for (const std::string bad : {"0.0.0.0:5", "[::]:5", "host", "host:0"}) {
    EXPECT_EQ(AdvertisedAddress(bad, "127.0.0.1:5").status().code(),
              absl::StatusCode::kInvalidArgument)
        << bad;
  }
  EXPECT_THAT(std::string(AdvertisedAddress("", "0.0.0.0:5").status().message()),
              HasSubstr("--advertise"));
}

}  // namespace
}  // namespace winnow
