// The C++ SDK against a real server on loopback with a service that does what the test says.
#include "client/cpp/winnow_client.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "common/retry_hint.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "rpc/grpc_status.h"
#include "rpc/queued_writer.h"
#include "rpc/server.h"
#include "wire/plan_proto.h"

namespace winnow {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr absl::Duration kPatience = absl::Seconds(20);

class FakeRouter final : public v1::GenerationService::CallbackService {
 public:
  using Writer = QueuedWriter<v1::GenerateResponse>;

  grpc::ServerWriteReactor<v1::GenerateResponse>* Generate(
      grpc::CallbackServerContext* context, const v1::GenerateRequest* request) override {
    auto writer = Writer::Create(*context);
    writer->SetOnCancel([this, writer] {
      {
        std::lock_guard<std::mutex> lock(mutex_);
        cancelled_ = true;
      }
      wake_.notify_all();
      writer->Finish(absl::CancelledError("the client left"));
    });
    last_request = *request;
    if (on_call) on_call(*writer);
    called = true;
    return writer.get();
  }
  bool WaitForCancel() {
    std::unique_lock<std::mutex> lock(mutex_);
    return wake_.wait_for(lock, absl::ToChronoMilliseconds(kPatience),
                          [this] { return cancelled_; });
  }

  std::function<void(Writer&)> on_call;
  v1::GenerateRequest last_request;  // read it once `called`
  std::atomic<bool> called{false};

 private:
  std::mutex mutex_;
  std::condition_variable wake_;
  bool cancelled_ = false;
};

class WinnowClientTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto server = StartServer({.services = {&router_}});
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    auto client = WinnowClient::Create(server_->address());
    ASSERT_TRUE(client.ok()) << client.status();
    client_ = *std::move(client);
  }
  absl::StatusOr<GenerateResult> Ask(const std::string& text = "hello",
                                     absl::Duration timeout = kPatience,
                                     const StopFlag* stop = nullptr) {
    v1::GenerateRequest request;
    request.set_text(text);
    GenerateCallbacks callbacks;
    callbacks.started = [this](int64_t tokens) {
      heard_.push_back(absl::StrCat("started ", tokens));
    };
    callbacks.token = [this](int32_t index, int32_t id, const std::string& piece) {
      heard_.push_back(absl::StrCat(index, ":", id, ":", piece));
    };
    return client_->Generate(request, timeout, callbacks, stop);
  }

  static v1::GenerateResponse Started() {
    v1::GenerateResponse event;
    event.mutable_started()->set_request_id("r");
    event.mutable_started()->set_prompt_tokens(3);
    return event;
  }
  static v1::GenerateResponse Token(int index, int id, const std::string& text) {
    v1::GenerateResponse event;
    event.mutable_token()->set_index(index);
    event.mutable_token()->set_id(id);
    event.mutable_token()->set_text(text);
    return event;
  }
  static v1::GenerateResponse Finished(const std::string& rest = "") {
    v1::GenerateResponse event;
    event.mutable_finished()->set_reason(v1::FINISH_REASON_STOP_TOKEN);
    event.mutable_finished()->set_text(rest);
    event.mutable_finished()->set_prompt_tokens(3);
    event.mutable_finished()->mutable_ledger()->set_kept_tokens(2);
    event.mutable_finished()->add_kept_position_deltas(4);
    event.mutable_finished()->add_kept_position_deltas(2);
    *event.mutable_finished()->mutable_selection() = ToProto(SelectionConfig{});
    return event;
  }

  FakeRouter router_;
  std::unique_ptr<RpcServer> server_;
  std::unique_ptr<WinnowClient> client_;
  std::vector<std::string> heard_;
};

TEST_F(WinnowClientTest, GathersAGenerationAndTellsItAsItComes) {
  router_.on_call = [](auto& writer) {
    writer.Write(Started());
    writer.Write(Token(0, 7, "a"));
    writer.Write(Token(1, 8, ""));
    writer.Write(Finished("bc"));
    writer.Finish(absl::OkStatus());
  };
  const auto result = Ask();
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(router_.last_request.text(), "hello");
  EXPECT_EQ(result->request_id, "r");
  EXPECT_EQ(result->text, "abc");
  EXPECT_THAT(result->token_ids, ElementsAre(7, 8));
  EXPECT_EQ(result->prompt_tokens, 3);
  EXPECT_EQ(result->finish_reason, "stop_token");
  EXPECT_EQ(result->ledger.kept_tokens, 2);
  EXPECT_THAT(result->kept_positions, ElementsAre(4, 6));
  EXPECT_GT(result->ttft_s, 0);
  EXPECT_GE(result->total_s, result->ttft_s);
  EXPECT_THAT(heard_, ElementsAre("started 3", "0:7:a", "1:8:", "-1:-1:bc"));
}

TEST_F(WinnowClientTest, CarriesARefusalWithItsHint) {
  router_.on_call = [](auto& writer) {
    absl::Status full = absl::ResourceExhaustedError("queue is full: 8 of 8");
    SetRetryAfter(full, absl::Milliseconds(250));
    writer.Finish(full);
  };
  const absl::Status status = Ask().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(std::string(status.message()), "queue is full: 8 of 8");
  EXPECT_EQ(GetRetryAfter(status), absl::Milliseconds(250));
}

TEST_F(WinnowClientTest, AStopFlagCancelsTheCallOnTheServerToo) {
  router_.on_call = [](auto& writer) { writer.Write(Started()); };
  StopFlag stop;
  std::thread stopper([&] { stop.Stop(absl::StatusCode::kCancelled); });
  EXPECT_EQ(Ask("hello", kPatience, &stop).status().code(), absl::StatusCode::kCancelled);
  stopper.join();
  EXPECT_TRUE(router_.WaitForCancel());
}

TEST_F(WinnowClientTest, ATimeoutEndsTheCallOnBothSides) {
  router_.on_call = [](auto& writer) { writer.Write(Started()); };
  EXPECT_EQ(Ask("hello", absl::Milliseconds(100)).status().code(),
            absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(router_.WaitForCancel());
}

TEST_F(WinnowClientTest, AStreamWithoutItsLastEventIsNoSuccess) {
  router_.on_call = [](auto& writer) {
    writer.Write(Started());
    writer.Write(Token(0, 7, "a"));
    writer.Finish(absl::OkStatus());
  };
  EXPECT_EQ(Ask().status().code(), absl::StatusCode::kInternal);
}

TEST_F(WinnowClientTest, AServerThatGoesAwayIsUnavailable) {
  router_.on_call = [](auto& writer) { writer.Write(Started()); };
  std::thread killer([this] {
    while (!router_.called) std::this_thread::yield();
    server_->Shutdown(absl::ZeroDuration());
  });
  const absl::Status during = Ask().status();
  killer.join();
  EXPECT_THAT(during.code(),
              testing::AnyOf(absl::StatusCode::kUnavailable, absl::StatusCode::kCancelled));
  server_.reset();
  EXPECT_EQ(Ask("hello", absl::Seconds(5)).status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(WinnowClientTest, SendsALargePrompt) {
  router_.on_call = [](auto& writer) {
    writer.Write(Finished());
    writer.Finish(absl::OkStatus());
  };
  const std::string prompt(3 << 20, 'x');
  EXPECT_TRUE(Ask(prompt).ok());
  EXPECT_EQ(router_.last_request.text().size(), prompt.size());
}

TEST_F(WinnowClientTest, RefusesTextThatIsNotUtf8BeforeItIsSent) {
  const absl::Status status = Ask("ab\xff").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("prompt: not valid UTF-8 at byte 2"));
  EXPECT_FALSE(router_.called);
}

TEST_F(WinnowClientTest, RefusesWhatIsTooLargeForAnyRouterBeforeItIsSent) {
  const absl::Status status = Ask(std::string(16 << 20, 'a')).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("request: at most 16777216 bytes, got 1677722"));
  EXPECT_FALSE(router_.called);
}

TEST(WinnowClientCreateTest, RefusesAnAddressThatIsNone) {
  EXPECT_EQ(WinnowClient::Create("no port").status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace winnow
