// A whole request in the router, from its proto to its last event: the demo model's tokenizer, fake
// workers.
#include "router/generation.h"

#include <thread>

#include "common/retry_hint.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/router/fake_timer.h"
#include "tests/router/fake_worker_source.h"
#include "tests/router/fake_workers.h"
#include "wire/plan_proto.h"

namespace winnow {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class GenerationTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto tokenizer = Tokenizer::Create(std::string(WINNOW_SOURCE_DIR) + "/models/demo");
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = *std::move(tokenizer);
    v1::WorkerInfo model;
    model.set_vocab_size(tokenizer_->vocab_size());
    model.set_max_context(1000);
    model.add_eos_token_ids(0);
    SelectionConfig profile;
    profile.selection_layer = 5;
    profile.uncompacted_layers = 2;
    *model.mutable_profile() = ToProto(profile);
    workers_.SetModel(model);
    metrics_ = std::make_unique<RouterMetrics>(registry_of_metrics_);
  }
  void TearDown() override {
    if (generation_ != nullptr) generation_->Cancel();  // lets go of its calls
  }
  void Workers() {
    WorkerRegistry::Options options;
    options.poll_period = absl::Hours(1);
    source_.Set({"p:1"}, {"d:1"});
    registry_ = std::make_unique<WorkerRegistry>(
        workers_, clock_, std::vector<const WorkerSource*>{&source_}, options);
    for (int i = 0; i < 1000 && registry_->Workers().size() < 2; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    ASSERT_THAT(registry_->Workers(), SizeIs(2));
  }
  void Begin(const v1::GenerateRequest& request, Deadline deadline = Deadline::Infinite()) {
    GenerationSink sink;
    sink.write = [this](v1::GenerateResponse event) { events_.push_back(std::move(event)); };
    sink.finish = [this](const absl::Status& status) { ends_.push_back(status); };
    const GenerationParts parts{*tokenizer_, workers_, *registry_, clock_, timer_, *metrics_};
    RequestSlot slot({.client = client_,
                      .deadline = deadline,
                      .trace = TraceContext::New(),
                      .bytes = static_cast<int64_t>(request.ByteSizeLong())});
    generation_ = std::make_shared<Generation>(parts, options_, request, std::move(slot), sink);
    generation_->Begin();
  }
  static v1::GenerateRequest Ask(const std::string& raw, int max_tokens = 8) {
    v1::GenerateRequest request;
    request.set_raw(raw);
    request.mutable_sampling()->set_max_tokens(max_tokens);
    return request;
  }
  // The workers' answer: `text` and a stop token.
  void Answer(const std::string& text) {
    std::vector<int32_t> ids = *tokenizer_->EncodePlain(text);
    ids.push_back(0);
    AnswerWith(ids);
  }
  // Token by token, the first from the prefill worker.
  void AnswerWith(const std::vector<int32_t>& ids) {
    auto& p = *workers_.prefills.at(0);
    v1::PrefillResponse accepted, reserved, token, committed;
    accepted.mutable_accepted()->set_tensor_parallel(2);
    p.Say(accepted);
    reserved.mutable_reserved()->set_reservation_id("R");
    p.Say(reserved);
    token.mutable_token()->set_id(ids[0]);
    p.Say(token);
    committed.mutable_committed()->set_decode_follows(true);
    committed.mutable_committed()->mutable_ledger()->set_prompt_tokens(3);
    p.Say(committed);
    for (size_t i = 1; i < ids.size() && ends_.empty(); ++i) {
      workers_.decodes.at(0)->Say(
          Decoded(static_cast<int32_t>(i), ids[i], /*is_last=*/i + 1 == ids.size()));
    }
  }
  static v1::DecodeResponse Decoded(int32_t index, int32_t id, bool is_last) {
    v1::DecodeResponse decoded;
    decoded.set_index(index);
    decoded.set_id(id);
    decoded.set_is_stop(id == 0);
    decoded.set_is_last(is_last);
    return decoded;
  }
  std::string Text() const {
    std::string text;
    for (const v1::GenerateResponse& event : events_) {
      text += event.token().text() + event.finished().text();
    }
    return text;
  }

  RealClock clock_;
  FakeWorkers workers_;
  FakeTimer timer_;
  FakeWorkerSource source_;
  std::unique_ptr<Tokenizer> tokenizer_;
  MetricsRegistry registry_of_metrics_;
  std::unique_ptr<RouterMetrics> metrics_;
  std::unique_ptr<WorkerRegistry> registry_;
  GenerationOptions options_;
  std::shared_ptr<Client> client_;
  std::shared_ptr<Generation> generation_;
  std::vector<v1::GenerateResponse> events_;
  std::vector<absl::Status> ends_;
};

// The limits of the client's token hold before any worker is asked.
TEST_F(GenerationTest, AClientGetsNoMoreThanItsTokenAllows) {
  Workers();
  const ClientLimits limits{.tokens_per_minute = 50, .min_keep_ratio = 0.2};
  client_ = std::make_shared<Client>("batch", limits, clock_);
  v1::GenerateRequest request = Ask("What is it?", 20);
  request.mutable_selection()->set_policy("claa");
  request.mutable_selection()->set_keep_ratio(0.1);
  Begin(request);
  ASSERT_THAT(ends_, SizeIs(1));
  EXPECT_EQ(ends_[0].code(), absl::StatusCode::kPermissionDenied);
  request.mutable_selection()->set_policy("full");
  Begin(request);
  EXPECT_THAT(workers_.prefills, SizeIs(1));
  generation_->Cancel();
  request.mutable_sampling()->set_max_tokens(40);
  Begin(request);
  EXPECT_EQ(ends_.back().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(GetRetryAfter(ends_.back()).has_value());
  request.mutable_sampling()->set_max_tokens(60);
  Begin(request);
  EXPECT_EQ(ends_.back().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(workers_.prefills, SizeIs(1));
}

// Raw prompts end where the question ends, chats in the template's suffix.
TEST_F(GenerationTest, OnlyChatPromptsHaveTheirWindowMoved) {
  options_.chat_window_offset = 2;
  Workers();
  Begin(Ask("What is it?", 1));
  EXPECT_EQ(workers_.prefills.at(0)->request.selection().window_offset(), 0);
  generation_->Cancel();
  v1::GenerateRequest chat;
  chat.set_text("What is it?");
  chat.mutable_sampling()->set_max_tokens(1);
  Begin(chat);
  EXPECT_EQ(workers_.prefills.at(1)->request.selection().window_offset(), 2);
}

TEST_F(GenerationTest, StreamsStartedTokensAndFinishedInOrder) {
  Workers();
  v1::GenerateRequest request = Ask("The code is", 100);
  request.set_request_id("mine");
  Begin(request);
  ASSERT_THAT(events_, SizeIs(1));
  EXPECT_EQ(events_[0].started().request_id(), "mine");
  EXPECT_EQ(events_[0].started().prompt_tokens(), tokenizer_->EncodeRaw("The code is")->size());
  const v1::PrefillRequest& sent = workers_.prefills.at(0)->request;
  EXPECT_THAT(sent.request_id(), testing::StartsWith("mine."));
  EXPECT_EQ(std::vector<int32_t>(sent.prompt_ids().begin(), sent.prompt_ids().end()),
            *tokenizer_->EncodeRaw("The code is"));
  Answer("8820180 and é");
  EXPECT_THAT(ends_, ElementsAre(absl::OkStatus()));
  EXPECT_EQ(Text(), "8820180 and é");
  const v1::Finished& finished = events_.back().finished();
  EXPECT_EQ(finished.reason(), v1::FINISH_REASON_STOP_TOKEN);
  EXPECT_EQ(finished.completion_tokens(), static_cast<int64_t>(events_.size()) - 2);
  EXPECT_EQ(finished.ledger().prompt_tokens(), 3);
  EXPECT_EQ(finished.prefill_tensor_parallel(), 2);
  EXPECT_GT(finished.ttft_seconds(), 0);
  EXPECT_GE(finished.total_seconds(), finished.ttft_seconds());
  for (size_t i = 1; i + 1 < events_.size(); ++i) {
    EXPECT_EQ(events_[i].token().index(), static_cast<int32_t>(i) - 1);
  }
}

TEST_F(GenerationTest, AStopStringEndsTheTextBeforeItAndTheDecodeCall) {
  Workers();
  v1::GenerateRequest request = Ask("count", 100);
  request.mutable_sampling()->add_stop(" END");
  Begin(request);
  Answer("one two END three");
  EXPECT_THAT(ends_, ElementsAre(absl::OkStatus()));
  EXPECT_EQ(Text(), "one two");
  EXPECT_EQ(events_.back().finished().reason(), v1::FINISH_REASON_STOP_STRING);
  EXPECT_TRUE(workers_.decodes.at(0)->cancelled);
}

// The text ends in half a character, behind what might have become a stop string.
TEST_F(GenerationTest, WhatWasHeldBackComesInItsOrder) {
  Workers();
  std::vector<int32_t> ids = *tokenizer_->EncodePlain("one ENé");
  ids.pop_back();
  v1::GenerateRequest request = Ask("count", static_cast<int>(ids.size()));
  request.mutable_sampling()->add_stop(" END");
  Begin(request);
  AnswerWith(ids);
  EXPECT_THAT(ends_, ElementsAre(absl::OkStatus()));
  EXPECT_EQ(Text(), "one EN\uFFFD");
  EXPECT_EQ(events_.back().finished().reason(), v1::FINISH_REASON_LENGTH);
}

TEST_F(GenerationTest, RefusesBadRequestsBeforeAnyWorkerSeesThem) {
  Workers();
  const std::vector<std::pair<std::function<void(v1::GenerateRequest&)>, std::string>> rows = {
      {[](auto& r) { r.clear_raw(); }, "must be set"},
      {[](auto& r) { r.set_raw("\xff"); }, "UTF-8"},
      {[](auto& r) { r.mutable_token_ids()->add_ids(1 << 20); }, "token id"},
      {[](auto& r) { r.mutable_sampling()->set_max_tokens(1000); }, "too long"},
      {[](auto& r) { r.mutable_sampling()->set_max_tokens(2000); }, "max_tokens must be in"},
      {[](auto& r) { r.mutable_selection()->set_policy("magic"); }, "magic"},
  };
  for (const auto& [change, text] : rows) {
    v1::GenerateRequest request = Ask("hello");
    change(request);
    ends_.clear();
    Begin(request);
    ASSERT_THAT(ends_, SizeIs(1)) << text;
    EXPECT_EQ(ends_[0].code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(ends_[0].message()), HasSubstr(text));
  }
  v1::GenerateRequest explain = Ask("hello");
  explain.mutable_selection()->set_explain(true);
  Begin(explain);
  EXPECT_EQ(ends_.back().code(), absl::StatusCode::kPermissionDenied);
  EXPECT_THAT(workers_.prefills, IsEmpty());
  EXPECT_THAT(events_, IsEmpty());
}

TEST_F(GenerationTest, SizesAreLimitedBeforeAnythingIsTokenized) {
  Workers();
  options_.max_request_bytes = 1000;
  v1::GenerateRequest request = Ask(std::string(1001, '\xff'));  // the tokenizer would say UTF-8
  Begin(request);
  ASSERT_THAT(ends_, SizeIs(1));
  EXPECT_EQ(ends_[0].code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(ends_[0].message()), HasSubstr("at most 1000 bytes"));
}

TEST_F(GenerationTest, TwoClientsWithOneNameDoNotMeet) {
  Workers();
  v1::GenerateRequest request = Ask("hello");
  request.set_request_id("same");
  Begin(request);
  const std::shared_ptr<Generation> first = generation_;
  Begin(request);
  ASSERT_THAT(workers_.prefills, SizeIs(2));
  EXPECT_NE(workers_.prefills[0]->request.request_id(), workers_.prefills[1]->request.request_id());
  first->Cancel();
}

TEST_F(GenerationTest, ACancelEndsItOnceAndStopsTheWorker) {
  Workers();
  Begin(Ask("hello"));
  generation_->Cancel();
  generation_->Cancel();
  ASSERT_THAT(ends_, SizeIs(1));
  EXPECT_EQ(ends_[0].code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(workers_.prefills.at(0)->cancelled);
}

TEST_F(GenerationTest, ACancelAmongItsTokensEndsItOnce) {
  Workers();
  for (int round = 0; round < 50; ++round) {
    events_.clear();
    ends_.clear();
    Begin(Ask("hello", 100));
    const auto p = workers_.prefills.back();
    v1::PrefillResponse reserved, token, committed;
    reserved.mutable_reserved()->set_reservation_id("R");
    p->Say(reserved);
    token.mutable_token()->set_id(1);
    p->Say(token);
    const auto d = workers_.decodes.back();
    std::thread workers([&] {
      committed.mutable_committed()->set_decode_follows(true);
      p->Say(committed);
      for (int32_t index = 1; index < 20; ++index) d->Say(Decoded(index, 1, index == 19));
    });
    std::thread client([this] { generation_->Cancel(); });
    workers.join();
    client.join();
    ASSERT_THAT(ends_, SizeIs(1));
    ASSERT_EQ(ends_[0].ok(), events_.back().has_finished());
  }
}

TEST_F(GenerationTest, ADeadlineThatPassedInTheQueueNeedsNoWorker) {
  Workers();
  Begin(Ask("hello"), Deadline::After(clock_, absl::ZeroDuration()));
  ASSERT_THAT(ends_, SizeIs(1));
  EXPECT_EQ(ends_[0].code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(workers_.prefills, IsEmpty());
}

TEST_F(GenerationTest, AFailureReachesTheClientWithItsHint) {
  Workers();
  options_.driver.max_attempts = 1;
  Begin(Ask("hello"));
  absl::Status full = absl::ResourceExhaustedError("the queue holds 8 of 8 requests");
  SetRetryAfter(full, absl::Seconds(2));
  workers_.prefills.at(0)->End(full);
  ASSERT_THAT(ends_, SizeIs(1));
  EXPECT_EQ(ends_[0].code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(GetRetryAfter(ends_[0]), absl::Seconds(2));
}

}  // namespace
}  // namespace winnow
