#include "rpc/tls.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "rpc/channel.h"
#include "rpc/grpc_deadline.h"
#include "rpc/grpc_status.h"
#include "rpc/server.h"
#include "tests/rpc/test_certificates.h"
#include "tests/testing/wait_until.h"
#include "winnow/v1/model.grpc.pb.h"

namespace winnow {
namespace {

using ::testing::HasSubstr;

class EmptyModelService final : public v1::ModelService::CallbackService {
 public:
  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context,
                                       const v1::ListModelsRequest*,
                                       v1::ListModelsResponse*) override {
    auto* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }
};

class TlsTest : public ::testing::Test {
 protected:
  absl::Status Serve(const ServerSecurity& security, const std::string& listen = "127.0.0.1:0") {
    auto started = StartServer({.listen = listen, .services = {&service_}, .security = security});
    if (started.ok()) server_ = std::move(*started);
    return started.status();
  }
  // A call on a connection of its own; UNAVAILABLE when the handshake fails.
  absl::Status Call(const TlsFiles& files) {
    const auto channel = MakeChannel(server_->address(), {.own_connection = true, .tls = files});
    if (!channel.ok()) return channel.status();
    grpc::ClientContext context;
    SetDeadline(context, Deadline::After(clock_, absl::Seconds(5)), clock_);
    v1::ListModelsResponse response;
    const auto status = v1::ModelService::NewStub(*channel)->ListModels(&context, {}, &response);
    return FromGrpcStatus(status, context);
  }

  RealClock clock_;
  TestCertificates ours_, foreign_;
  EmptyModelService service_;
  std::unique_ptr<RpcServer> server_;
};

TEST_F(TlsTest, MutualTlsLetsInWhoShowsACertificateOfTheAuthority) {
  ASSERT_EQ(Serve({.tls = ours_.all()}), absl::OkStatus());
  EXPECT_EQ(Call(ours_.all()), absl::OkStatus());
  EXPECT_FALSE(Call(ours_.authority()).ok()) << "showed none";
  TlsFiles stranger = foreign_.identity();
  stranger.authority = ours_.path("ca.pem");
  EXPECT_FALSE(Call(stranger).ok()) << "showed a foreign one";
  EXPECT_FALSE(Call({}).ok()) << "spoke plain text";
  EXPECT_EQ(Call(ours_.all()), absl::OkStatus());  // the server lives
}

TEST_F(TlsTest, ClientsNeedNoCertificateWhereNobodyAsks) {
  ASSERT_EQ(Serve({.tls = ours_.all(), .asks_for_certificate = false}), absl::OkStatus());
  EXPECT_EQ(Call(ours_.authority()), absl::OkStatus());
  ASSERT_EQ(Serve({.tls = ours_.identity()}), absl::OkStatus());
  EXPECT_EQ(Call(ours_.authority()), absl::OkStatus());
}

TEST_F(TlsTest, AServerOfAnotherAuthorityIsNotTrusted) {
  ASSERT_EQ(Serve({.tls = foreign_.identity()}), absl::OkStatus());
  EXPECT_EQ(Call(ours_.authority()).code(), absl::StatusCode::kUnavailable);
}

TEST_F(TlsTest, AServerIsKnownByTheNameInItsCertificateWhereThatIsAskedFor) {
  // Its certificate is for 127.0.0.1 and workers.winnow.
  ASSERT_EQ(Serve({.tls = ours_.all()}, "127.0.0.2:0"), absl::OkStatus());
  TlsFiles files = ours_.all();
  EXPECT_FALSE(Call(files).ok());
  files.server_name = "workers.winnow";
  EXPECT_EQ(Call(files), absl::OkStatus());
  files.server_name = "elsewhere";
  EXPECT_FALSE(Call(files).ok());
}

TEST_F(TlsTest, AServerWithoutTlsIsNotTrusted) {
  ASSERT_EQ(Serve({}), absl::OkStatus());
  EXPECT_FALSE(Call(ours_.authority()).ok());
  EXPECT_EQ(Call({}), absl::OkStatus());
}

TEST_F(TlsTest, ChangedFilesAreReadAgain) {
  ASSERT_EQ(Serve({.tls = ours_.all()}), absl::OkStatus());
  ASSERT_EQ(Call(ours_.all()), absl::OkStatus());
  const TestCertificates old;  // a copy of what was good
  for (const char* name : {"ca.pem", "cert.pem", "key.pem"}) {
    std::filesystem::copy_file(ours_.path(name), old.path(name),
                               std::filesystem::copy_options::overwrite_existing);
  }
  ours_.Make();
  EXPECT_TRUE(WaitUntil([this] { return Call(ours_.all()).ok(); }));
  EXPECT_FALSE(Call(old.all()).ok());
}

TEST_F(TlsTest, PlainTextStaysOnLoopbackUnlessAllowed) {
  for (const char* listen : {"127.0.0.1:0", "localhost:0", ":0"}) {
    EXPECT_EQ(Serve({}, listen), absl::OkStatus()) << listen;
  }
  const absl::Status refused = Serve({}, "0.0.0.0:0");
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("--allow-plaintext"));
}

TEST_F(TlsTest, BadFilesAreNamed) {
  const std::string text = ours_.path("text"), missing = ours_.path("missing");
  std::ofstream(text) << "no PEM";
  const struct {
    TlsFiles files;
    std::string expected;
  } cases[] = {
      {{ours_.path("cert.pem"), "", ""}, "no key"},
      {{"", ours_.path("key.pem"), ""}, "no certificate"},
      {{missing, ours_.path("key.pem"), ""}, "certificate: cannot read " + missing},
      {{ours_.path("cert.pem"), text, ""}, "key: expected PEM"},
      {{"", "", text}, "authority: expected PEM"},
  };
  for (const auto& [files, expected] : cases) {
    const absl::Status server = Serve({.tls = files});
    EXPECT_EQ(server.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(server.message()), HasSubstr(expected));
    EXPECT_EQ(MakeChannelCredentials(files).status(), server);
  }
  EXPECT_EQ(Serve({.tls = ours_.authority()}).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(MakeChannelCredentials(ours_.identity()).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace winnow
