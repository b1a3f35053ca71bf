#include "router/model_list.h"

#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "plan/selection_config.h"
#include "tests/router/fake_worker_source.h"
#include "tests/router/fake_workers.h"
#include "wire/plan_proto.h"

namespace winnow {
namespace {

using ::testing::ElementsAre;

class ModelListTest : public ::testing::Test {
 protected:
  void SetUp() override {
    v1::WorkerInfo model;
    model.set_model_id("demo");
    model.set_vocab_size(100);
    model.set_max_context(4096);
    model.add_eos_token_ids(7);
    SelectionConfig profile;
    profile.selection_layer = 5;
    profile.uncompacted_layers = 2;
    profile.window_offset = 3;
    *model.mutable_profile() = ToProto(profile);
    workers_.SetModel(model);
  }
  void WaitForReady(size_t count) {
    while (registry_.Workers().size() != count) std::this_thread::yield();
  }

  RealClock clock_;
  FakeWorkers workers_;
  FakeWorkerSource source_;
  WorkerRegistry registry_{workers_, clock_, {&source_}, {.source_period = absl::Milliseconds(1)}};
};

TEST_F(ModelListTest, IsUnavailableUntilAPrefillWorkerHasAnswered) {
  const ModelList models(registry_, std::nullopt);
  EXPECT_EQ(models.Get().status().code(), absl::StatusCode::kUnavailable);
  source_.Set({}, {"d:1"});
  WaitForReady(1);
  EXPECT_EQ(models.Get().status().code(), absl::StatusCode::kUnavailable);
  source_.Set({"p:1"}, {"d:1"});
  WaitForReady(2);
  EXPECT_TRUE(models.Get().ok());
}

TEST_F(ModelListTest, SaysWhatTheWorkersSayAndWhoTheyAre) {
  source_.Set({"p:1"}, {"d:1"});
  WaitForReady(2);
  const absl::StatusOr<v1::Model> model = ModelList(registry_, std::nullopt).Get();
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->id(), "demo");
  EXPECT_EQ(model->vocab_size(), 100);
  EXPECT_EQ(model->max_context(), 4096);
  EXPECT_THAT(model->eos_token_ids(), ElementsAre(7));
  EXPECT_EQ(model->profile().selection_layer(), 5);
  ASSERT_EQ(model->workers_size(), 2);
  EXPECT_EQ(model->workers(0).address(), "p:1");
  EXPECT_EQ(model->workers(1).address(), "d:1");
}

TEST_F(ModelListTest, TheChatsWindowOffsetIsTheRoutersOrElseTheProfiles) {
  source_.Set({"p:1"}, {});
  WaitForReady(1);
  EXPECT_EQ(ModelList(registry_, std::nullopt).Get()->chat_window_offset(), 3);
  EXPECT_EQ(ModelList(registry_, 9).Get()->chat_window_offset(), 9);
  EXPECT_EQ(ModelList(registry_, 9).Get()->profile().window_offset(), 3);
}

}  // namespace
}  // namespace winnow
