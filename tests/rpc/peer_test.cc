#include "rpc/peer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/peer_failure.h"
#include "rpc/channel.h"
#include "rpc/grpc_deadline.h"
#include "rpc/grpc_status.h"
#include "rpc/server.h"
#include "tests/rpc/test_certificates.h"
#include "winnow/v1/model.grpc.pb.h"

namespace winnow {
namespace {

// Notes who called; answers with one status.
class NotingService final : public v1::ModelService::CallbackService {
 public:
  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context,
                                       const v1::ListModelsRequest*,
                                       v1::ListModelsResponse*) override {
    certificate = PeerCertificateName(*context);
    may_act_as_worker = MayActAsWorker(*context);
    auto* reactor = context->DefaultReactor();
    reactor->Finish(ToGrpcStatus(answer, *context));
    return reactor;
  }
  std::string certificate;
  bool may_act_as_worker = false;
  absl::Status answer;
};

class PeerTest : public ::testing::Test {
 protected:
  absl::Status Call(const ServerSecurity& security, const TlsFiles& files,
                    const std::string& host = "127.0.0.1") {
    auto server =
        StartServer({.listen = host + ":0", .services = {&service_}, .security = security});
    if (!server.ok()) return server.status();
    const auto channel = MakeChannel(host + ":" + std::to_string((*server)->port()),
                                     {.own_connection = true, .tls = files});
    if (!channel.ok()) return channel.status();
    grpc::ClientContext context;
    SetDeadline(context, Deadline::After(clock_, absl::Seconds(10)), clock_);
    v1::ListModelsResponse response;
    const auto status = v1::ModelService::NewStub(*channel)->ListModels(&context, {}, &response);
    return FromGrpcStatus(status, context);
  }
  RealClock clock_;
  TestCertificates ours_;
  NotingService service_;
};

TEST_F(PeerTest, ACertificateNamesItsHolder) {
  ASSERT_EQ(Call({.tls = ours_.all()}, ours_.all()), absl::OkStatus());
  EXPECT_EQ(service_.certificate, "127.0.0.1");  // the alternative name
  EXPECT_TRUE(service_.may_act_as_worker);
}

TEST_F(PeerTest, WhoShowsNoneHasNoName) {
  ASSERT_EQ(Call({.tls = ours_.all(), .asks_for_certificate = false}, ours_.authority()),
            absl::OkStatus());
  EXPECT_EQ(service_.certificate, "");
  ASSERT_EQ(Call({}, {}), absl::OkStatus());
  EXPECT_EQ(service_.certificate, "");
  EXPECT_TRUE(service_.may_act_as_worker);  // from loopback
}

TEST_F(PeerTest, AServersCertificateMayCarryAnAgreedNameInPlaceOfItsAddress) {
  TlsFiles files = ours_.all();
  EXPECT_FALSE(Call({.tls = ours_.all()}, files, "127.0.0.2").ok());
  files.server_name = "127.0.0.1";  // what the certificate carries
  EXPECT_EQ(Call({.tls = ours_.all()}, files, "127.0.0.2"), absl::OkStatus());
}

TEST_F(PeerTest, WhoseFailureItIsGoesOverTheWire) {
  service_.answer = absl::UnavailableError("the decode worker is gone");
  EXPECT_FALSE(IsPeerFailed(Call({}, {})));
  SetPeerFailed(service_.answer);
  const absl::Status heard = Call({}, {});
  EXPECT_TRUE(IsPeerFailed(heard));
  EXPECT_EQ(heard.message(), "the decode worker is gone");
}

TEST(MayActAsWorkerTest, NeedsACertificateLoopbackOrATrustedNetwork) {
  struct Row {
    bool tls, certificate;
    const char* peer;
    bool may;
  };
  for (const Row& row :
       {Row{true, true, "ipv4:10.0.0.1:5", true}, Row{true, false, "ipv4:10.0.0.1:5", false},
        Row{true, false, "ipv6:[fd00::1]:5", false}, Row{true, false, "ipv4:127.0.0.1:5", true},
        Row{true, false, "ipv6:[::1]:5", true}, Row{true, false, "ipv4:12.7.0.1:5", false},
        Row{false, false, "ipv4:10.0.0.1:5", true}}) {
    EXPECT_EQ(MayActAsWorker(row.tls, row.certificate, row.peer), row.may) << row.peer;
  }
}

}  // namespace
}  // namespace winnow
