#include "router/request_validation.h"

#include <cmath>
#include <functional>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "wire/plan_proto.h"

namespace winnow {
namespace {

using ::testing::HasSubstr;

v1::WorkerInfo Model() {
  v1::WorkerInfo model;
  model.set_vocab_size(100);
  model.set_max_context(300);
  model.add_eos_token_ids(99);
  model.set_explain_allowed(true);
  SelectionConfig profile;
  profile.selection_layer = 5;
  profile.uncompacted_layers = 2;
  *model.mutable_profile() = ToProto(profile);
  return model;
}

TEST(RequestValidationTest, FillsInSamplingDefaults) {
  const auto params = ResolveSampling({}, Model(), 1234);
  ASSERT_TRUE(params.ok());
  EXPECT_EQ(params->max_tokens, 256);
  EXPECT_EQ(params->seed, 1234u);
  EXPECT_TRUE(params->IsStop(99));
  v1::SamplingOptions options;
  options.set_ignore_eos(true);
  EXPECT_FALSE(ResolveSampling(options, Model(), 1)->IsStop(99));
}

TEST(RequestValidationTest, RefusesBadSamplingWithASentence) {
  const std::vector<std::pair<std::function<void(v1::SamplingOptions&)>, std::string>> rows = {
      {[](auto& o) { o.set_max_tokens(0); }, "max_tokens must be in [1, 300], the context, got 0"},
      {[](auto& o) { o.set_max_tokens(301); }, "got 301"},
      {[](auto& o) { o.set_temperature(-1); }, "temperature"},
      {[](auto& o) { o.set_temperature(NAN); }, "temperature"},
      {[](auto& o) { o.set_top_p(0); }, "top_p"},
      {[](auto& o) { o.set_top_p(1.5); }, "top_p"},
      {[](auto& o) { o.set_top_k(-2); }, "top_k"},
      {[](auto& o) { o.add_stop(""); }, "stop string"},
      {[](auto& o) { o.add_stop_token_ids(100); }, "stop token id"},
  };
  for (const auto& [change, text] : rows) {
    v1::SamplingOptions options;
    change(options);
    const auto params = ResolveSampling(options, Model(), 1);
    EXPECT_EQ(params.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(params.status().message()), HasSubstr(text));
  }
}

TEST(RequestValidationTest, BoundsWhatARequestMayBring) {
  v1::SamplingOptions stops, long_stop, ids;
  for (int i = 0; i <= kMaxStopStrings; ++i) stops.add_stop("x");
  long_stop.add_stop(std::string(kMaxStopBytes + 1, 'x'));
  for (int i = 0; i <= kMaxStopIds; ++i) ids.add_stop_token_ids(1);
  for (const v1::SamplingOptions& options : {stops, long_stop, ids}) {
    EXPECT_EQ(ResolveSampling(options, Model(), 1).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
  v1::SelectionOptions spans;
  for (int i = 0; i <= kMaxProtectedSpans; ++i) spans.add_protected_spans();
  EXPECT_THAT(std::string(ResolveSelection(spans, Model(), false, std::nullopt).status().message()),
              HasSubstr("at most 1024 protected spans, got 1025"));
}

TEST(RequestValidationTest, AChatsWindowOffsetStandsInPlaceOfTheProfiles) {
  EXPECT_EQ(ResolveSelection({}, Model(), false, std::nullopt)->window_offset,
            Model().profile().window_offset());
  EXPECT_EQ(ResolveSelection({}, Model(), false, 5)->window_offset, 5);
}

TEST(RequestValidationTest, ChecksARequestBeforeItIsTokenized) {
  v1::GenerateRequest good;
  good.set_text("hello");
  good.set_request_id("client-7");
  EXPECT_EQ(CheckEnvelope(good), absl::OkStatus());
  const std::vector<std::pair<std::function<void(v1::GenerateRequest&)>, std::string>> rows = {
      {[](auto& r) { r.clear_text(); }, "one of text, raw, token_ids and chat"},
      {[](auto& r) { r.set_text(""); }, "empty"},
      {[](auto& r) { r.set_raw(""); }, "empty"},
      {[](auto& r) { r.mutable_chat(); }, "no messages"},
      {[](auto& r) { r.set_request_id(std::string(129, 'a')); }, "at most 128 bytes, got 129"},
      {[](auto& r) { r.set_request_id("two words"); }, "printable ASCII"},
      {[](auto& r) { r.set_request_id("a\nb"); }, "printable ASCII"},
  };
  for (const auto& [change, text] : rows) {
    v1::GenerateRequest request = good;
    change(request);
    const absl::Status status = CheckEnvelope(request);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(status.message()), HasSubstr(text));
  }
}

TEST(RequestValidationTest, BoundsTheSizeOfARequest) {
  EXPECT_EQ(CheckSize(1000, 1000), absl::OkStatus());
  const absl::Status refused = CheckSize(1001, 1000);
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(refused.message(), "request: at most 1000 bytes, got 1001");
}

TEST(RequestValidationTest, ChecksThePromptAgainstTheModel) {
  SamplingParams sampling;
  sampling.max_tokens = 261;
  EXPECT_TRUE(CheckPrompt(std::vector<int32_t>(40, 1), sampling, Model()).ok());
  EXPECT_THAT(std::string(CheckPrompt(std::vector<int32_t>(41, 1), sampling, Model()).message()),
              HasSubstr("too long"));
  EXPECT_THAT(std::string(CheckPrompt({}, sampling, Model()).message()), HasSubstr("empty"));
  EXPECT_THAT(std::string(CheckPrompt({1, 100}, sampling, Model()).message()),
              HasSubstr("got 100"));
  EXPECT_THAT(std::string(CheckPrompt({-1}, sampling, Model()).message()), HasSubstr("got -1"));
}

TEST(RequestValidationTest, ResolvesSelectionWithinTheProfile) {
  v1::SelectionOptions options;
  options.set_keep_ratio(0.25);
  const auto config = ResolveSelection(options, Model(), false, std::nullopt);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->keep_ppm, 250000);
  EXPECT_EQ(config->selection_layer, 5);
  for (double bad : {0.0, -0.5, 2.0, static_cast<double>(NAN)}) {
    options.set_keep_ratio(bad);
    EXPECT_EQ(ResolveSelection(options, Model(), false, std::nullopt).status().code(),
              absl::StatusCode::kInvalidArgument)
        << bad;
  }
  v1::SelectionOptions unknown;
  unknown.set_policy("magic");
  EXPECT_THAT(
      std::string(ResolveSelection(unknown, Model(), false, std::nullopt).status().message()),
      HasSubstr("magic"));
}

TEST(RequestValidationTest, ExplainNeedsPermissionOfRouterAndWorker) {
  v1::SelectionOptions options;
  options.set_explain(true);
  EXPECT_TRUE(ResolveSelection(options, Model(), true, std::nullopt).ok());
  EXPECT_EQ(ResolveSelection(options, Model(), false, std::nullopt).status().code(),
            absl::StatusCode::kPermissionDenied);
  v1::WorkerInfo strict = Model();
  strict.set_explain_allowed(false);
  EXPECT_EQ(ResolveSelection(options, strict, true, std::nullopt).status().code(),
            absl::StatusCode::kPermissionDenied);
}

}  // namespace
}  // namespace winnow
