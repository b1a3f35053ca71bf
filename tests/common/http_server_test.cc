#include "common/http_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>

#include <chrono>

namespace winnow {
namespace {

using ::testing::HasSubstr;

HttpServer::Options TwoPages() {
  HttpServer::Options options;
  options.get["/healthz"] = [] { return HttpServer::Response{.body = "ok\n"}; };
  options.get["/readyz"] = [] { return HttpServer::Response{.code = 503, .body = "loading\n"}; };
  return options;
}

TEST(HttpServerTest, ServesItsPages) {
  const auto server = HttpServer::Create(TwoPages());
  ASSERT_TRUE(server.ok()) << server.status();
  httplib::Client client("127.0.0.1", (*server)->port());
  const auto health = client.Get("/healthz");
  ASSERT_TRUE(health);
  EXPECT_EQ(health->status, 200);
  EXPECT_EQ(health->body, "ok\n");
  EXPECT_EQ(health->get_header_value("Content-Type"), "text/plain; charset=utf-8");
  const auto ready = client.Get("/readyz");
  ASSERT_TRUE(ready);
  EXPECT_EQ(ready->status, 503);
  EXPECT_EQ(ready->body, "loading\n");
  const auto absent = client.Get("/etc/passwd");
  ASSERT_TRUE(absent);
  EXPECT_EQ(absent->status, 404);
}

TEST(HttpServerTest, RefusesAPortThatIsTaken) {
  const auto first = HttpServer::Create(TwoPages());
  ASSERT_TRUE(first.ok()) << first.status();
  HttpServer::Options options = TwoPages();
  options.port = (*first)->port();
  const auto second = HttpServer::Create(options);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.status().message()),
              HasSubstr("127.0.0.1:" + std::to_string(options.port)));
}

TEST(HttpServerTest, RefusesAHostThatIsNotOurs) {
  HttpServer::Options options;
  options.host = "192.0.2.1";  // documentation only, RFC 5737
  EXPECT_EQ(HttpServer::Create(options).status().code(), absl::StatusCode::kUnavailable);
}

TEST(HttpServerTest, StopsPromptlyThoughAClientKeepsItsConnection) {
  auto server = HttpServer::Create(TwoPages());
  ASSERT_TRUE(server.ok()) << server.status();
  const int port = (*server)->port();
  httplib::Client client("127.0.0.1", port);
  client.set_keep_alive(true);
  ASSERT_TRUE(client.Get("/healthz"));
  const auto start = std::chrono::steady_clock::now();
  server->reset();
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(3));
  EXPECT_FALSE(httplib::Client("127.0.0.1", port).Get("/healthz"));
}

}  // namespace
}  // namespace winnow
