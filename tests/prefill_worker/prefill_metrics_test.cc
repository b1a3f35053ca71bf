#include "prefill_worker/prefill_metrics.h"

#include "engine/select/selection_digest.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace winnow {
namespace {

using ::testing::HasSubstr;

class PrefillMetricsTest : public ::testing::Test {
 protected:
  void Expect(const std::vector<std::string>& lines) {
    const std::string text = registry_.Serialize();
    for (const std::string& line : lines) EXPECT_THAT(text, HasSubstr(line + "\n"));
  }

  MetricsRegistry registry_;
  PrefillMetrics metrics_{registry_, /*tensor_parallel=*/2};
};

TEST_F(PrefillMetricsTest, AFinishedPrefillCountsOnceInEveryStage) {
  PrefillSummary summary;
  summary.ledger.prompt_tokens = 100;
  summary.ledger.kept_tokens = 10;
  summary.ledger.per_head = {.layers = 1, .entries_kept = 20, .entries_pruned = 180};
  summary.stages.queue = 0.25;
  summary.stages.reserve_wait = 0.5;
  summary.stages.allreduce = 0.125;
  metrics_.OnFinished({}, summary, /*ttft_seconds=*/2);
  Expect({"winnow_requests_total{code=\"OK\"} 1", "winnow_prefill_ttft_seconds_sum 2",
          "winnow_prompt_tokens_total 100", "winnow_keep_ratio_sum{policy=\"claa\"} 0.1",
          "winnow_request_queue_seconds_sum{where=\"prefill\"} 0.75",
          "winnow_score_allreduce_seconds_sum{tp=\"2\"} 0.125",
          "winnow_stage_seconds_sum{stage=\"queue\"} 0.25",
          "winnow_stage_seconds_count{stage=\"head\"} 1",  // skipped: zero, but counted
          "winnow_kv_entries_total{fate=\"pruned\",segment=\"per_head\"} 180"});
}

TEST_F(PrefillMetricsTest, AnUnprunedPromptHasNoScoresToReduce) {
  PrefillSummary summary;
  summary.ledger.prompt_tokens = summary.ledger.kept_tokens = 100;
  metrics_.OnFinished({}, summary, 2);
  Expect({"winnow_score_allreduce_seconds_count{tp=\"2\"} 0",
          "winnow_stage_seconds_count{stage=\"allreduce\"} 1"});
}

TEST_F(PrefillMetricsTest, FailuresWasteWhatWasComputedByTheirReason) {
  metrics_.OnComputed(700);
  metrics_.OnFailed({}, absl::CancelledError("left"), 100);
  metrics_.OnFailed({}, absl::DeadlineExceededError("late"), 200);
  metrics_.OnFailed({}, absl::InternalError("rank"), 300);
  metrics_.OnFailed({}, SelectionMismatch(1, 2, 1), 50);
  Expect({"winnow_prefill_computed_tokens_total 700",
          "winnow_wasted_tokens_total{reason=\"cancelled\"} 100",
          "winnow_wasted_tokens_total{reason=\"deadline\"} 200",
          "winnow_wasted_tokens_total{reason=\"failed\"} 350",
          "winnow_requests_total{code=\"INTERNAL\"} 2",
          "winnow_selection_digest_mismatch_total 1"});
}

TEST_F(PrefillMetricsTest, AHandoffIsTimedFromItsFirstChunk) {
  const absl::Time begun = absl::UnixEpoch() + absl::Seconds(10);
  metrics_.OnTransferred({.kv_payload_bytes = 4096,
                          .begun = begun,
                          .acknowledged = begun + absl::Milliseconds(750),
                          .committed = begun + absl::Seconds(1),
                          .credit_stall = absl::Milliseconds(125)},
                         /*exposed=*/absl::Milliseconds(500));
  Expect({"winnow_kv_transfer_seconds_sum 1", "winnow_kv_transfer_exposed_seconds_sum 0.5",
          "winnow_overlapped_seconds_sum{stage=\"kv_send\"} 0.75",
          "winnow_overlapped_seconds_sum{stage=\"commit\"} 0.25",
          "winnow_kv_transfer_size_bytes_sum 4096",
          "winnow_kv_transfer_bytes_total{direction=\"sent\"} 4096",
          "winnow_kv_credit_stall_seconds_total 0.125"});
}

TEST_F(PrefillMetricsTest, TransferFailuresHaveFourReasons) {
  metrics_.OnTransferFailed(absl::ResourceExhaustedError("full"));
  metrics_.OnTransferFailed(absl::UnavailableError("gone"));
  metrics_.OnTransferFailed(absl::DataLossError("bit"));
  metrics_.OnTransferFailed(absl::FailedPreconditionError("expired"));
  for (const char* reason : {"refused", "lost", "data_loss", "protocol"}) {
    Expect({std::string("winnow_kv_transfer_failures_total{reason=\"") + reason + "\"} 1"});
  }
}

TEST_F(PrefillMetricsTest, TheQueueIsByPriority) {
  metrics_.OnQueued({.low = 1, .normal = 2, .high = 3});
  metrics_.OnQueued({.low = 0, .normal = 5, .high = 1});
  Expect({"winnow_requests_queued{priority=\"low\"} 0",
          "winnow_requests_queued{priority=\"normal\"} 5",
          "winnow_requests_queued{priority=\"high\"} 1"});
}

}  // namespace
}  // namespace winnow
