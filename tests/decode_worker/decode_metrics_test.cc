#include "decode_worker/decode_metrics.h"

#include "decode_worker/paged_kv_target.h"
#include "engine/device/ref_backend.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "plan/selection_config.h"
#include "tests/decode_worker/fake_decode.h"
#include "tests/testing/fake_clock.h"
#include "transfer/chunk_codec.h"

namespace winnow {
namespace {

using ::testing::HasSubstr;

TEST(DecodeMetricsTest, EverythingIsThereAsZeroFromTheStart) {
  MetricsRegistry registry;
  DecodeMetrics metrics(registry);
  const std::string text = registry.Serialize();
  for (const char* line :
       {"winnow_decode_batch_size_count 0\n", "winnow_inter_token_latency_seconds_count 0\n",
        "winnow_generation_tokens_total 0\n", "winnow_kv_blocks{state=\"free\"} 0\n",
        "winnow_kv_blocks{state=\"used\"} 0\n", "winnow_kv_reservations_active 0\n",
        "winnow_kv_leases_expired_total 0\n",
        "winnow_kv_transfer_failures_total{reason=\"expired\"} 0\n",
        "winnow_kv_transfer_failures_total{reason=\"data_loss\"} 0\n",
        "winnow_kv_transfer_failures_total{reason=\"protocol\"} 0\n",
        "winnow_requests_total{code=\"OK\"} 0\n", "winnow_requests_total{code=\"INTERNAL\"} 0\n"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
}

TEST(DecodeMetricsTest, CountsWhatHappened) {
  MetricsRegistry registry;
  DecodeMetrics metrics(registry);
  metrics.OnStep(/*batch=*/5, /*seconds=*/0.25, /*tokens=*/3);
  metrics.OnStep(2, 0.25, 2);
  metrics.OnSequenceEnded(absl::OkStatus());
  metrics.OnSequenceEnded(absl::InternalError("rank"));
  metrics.OnReservationEnded(SequenceState::kExpired, absl::FailedPreconditionError("lease"));
  metrics.OnReservationEnded(SequenceState::kFailed, absl::DataLossError("crc"));
  metrics.OnReservationEnded(SequenceState::kFailed, absl::InvalidArgumentError("slot twice"));
  metrics.OnReservationEnded(SequenceState::kAborted,
                             absl::AbortedError("stop id as token 0"));  // no failure
  metrics.OnJoined(absl::Milliseconds(250));
  metrics.OnKvWritten(4096);
  metrics.OnDamagedKv();
  const std::string text = registry.Serialize();
  for (const char* line :
       {"winnow_request_queue_seconds_sum{where=\"decode\"} 0.25\n",
        "winnow_kv_transfer_bytes_total{direction=\"received\"} 4096\n",
        "winnow_kv_checksum_mismatch_total 1\n", "winnow_decode_batch_size_count 2\n",
        "winnow_decode_batch_size_sum 7\n", "winnow_inter_token_latency_seconds_sum 0.5\n",
        "winnow_generation_tokens_total 5\n", "winnow_requests_total{code=\"OK\"} 1\n",
        "winnow_requests_total{code=\"INTERNAL\"} 1\n", "winnow_kv_leases_expired_total 1\n",
        "winnow_kv_transfer_failures_total{reason=\"expired\"} 1\n",
        "winnow_kv_transfer_failures_total{reason=\"data_loss\"} 1\n",
        "winnow_kv_transfer_failures_total{reason=\"protocol\"} 1\n"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
}

TEST(DecodeMetricsTest, BlocksAreReadWhenAskedFor) {
  FakeDecodeEngine engine;
  FakeClock clock;
  RefBackend backend(DType::kF32);
  const ModelShape& shape = engine.shape();
  const auto kv = *PagedKv::Create({.shape = shape, .backends = {&backend}, .num_blocks = 7});
  MetricsRegistry registry;
  DecodeMetrics metrics(registry);
  DecodeCore core(std::make_unique<PagedKvTarget>(*kv), engine, clock, metrics,
                  {.reservations = {.shape = shape}});
  const KvPlan plan = MakePrefillPlan(shape, {.policy = &kFullPolicy}, 20).kv;
  ASSERT_TRUE(core.Reserve({.identity = {.wire_version = kWireVersion}, .plan = plan}).ok());
  metrics.Refresh(core);
  EXPECT_THAT(registry.Serialize(), HasSubstr("winnow_kv_reservations_active 1\n"));
  EXPECT_THAT(registry.Serialize(), HasSubstr("winnow_kv_blocks{state=\"free\"} 5\n"));
  EXPECT_THAT(registry.Serialize(), HasSubstr("winnow_kv_blocks{state=\"used\"} 2\n"));
}

}  // namespace
}  // namespace winnow
