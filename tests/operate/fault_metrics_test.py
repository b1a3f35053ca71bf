"""The metrics that only a fault moves, moved by fault points (common/fault.h). Needs programs of a test build."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
from fault_points_test import FaultTest, RequestError, unittest  # noqa: E402
from harness import SHORT  # noqa: E402
from metrics_test import NEEDS_FAULT  # noqa: E402

seen = set()  # metrics that moved


class MovedByFaultTest(FaultTest):
    def page(self, process):
        return self.cluster.metrics(process)

    def assert_moves(self, process, *series, during):
        """Each of the series is larger after `during()`, which may take a moment to show."""
        before = self.page(process)
        during()
        for name in series:
            self.wait_until(lambda: self.page(process)[name] > before[name], 20, f"{name} did not move")
            seen.add(name.split("{")[0])
        self.set_faults()

    def ask_under(self, *rules):
        def during():
            self.set_faults(*rules)
            self.assert_answers()
        return during

    def fail_under(self, *rules):
        def during():
            self.set_faults(*rules)
            with self.assertRaises(RequestError):
                self.ask(SHORT)
        return during


class ShortLeaseTest(MovedByFaultTest):
    options = {**FaultTest.options, "prefill_tp": 2}

    def test_a_flipped_bit(self):
        self.assert_moves("decode-0", "winnow_kv_checksum_mismatch_total",
                          'winnow_kv_transfer_failures_total{reason="data_loss"}',
                          during=self.ask_under("prefill.push.chunk corrupt times=1"))
        self.assertGreater(self.page("prefill-0")['winnow_kv_transfer_failures_total{reason="data_loss"}'], 0)

    def test_a_refusal_and_a_lost_worker(self):
        self.assert_moves("prefill-0", 'winnow_kv_transfer_failures_total{reason="refused"}',
                          during=self.ask_under("decode.reserve fail times=1 code=RESOURCE_EXHAUSTED"))
        self.assert_moves("prefill-0", 'winnow_kv_transfer_failures_total{reason="lost"}',
                          during=self.ask_under("prefill.push.open fail times=1"))
        self.assertGreater(self.page("router")['winnow_retries_total{reason="lost",stage="prefill"}'], 0)

    def test_a_lease_that_is_not_renewed(self):
        self.assert_moves("decode-0", "winnow_kv_leases_expired_total",
                          'winnow_kv_transfer_failures_total{reason="expired"}',
                          during=self.ask_under("prefill.renew drop", "prefill.step delay times=1 ms=3000"))

    def test_kv_that_nobody_takes(self):
        # The router gives up; what it might have asked for again stays for a while.
        self.assert_moves("prefill-0", "winnow_kv_pinned_bytes", during=self.fail_under("prefill.commit fail"))

    def test_ranks_that_choose_different_tokens(self):
        self.assert_moves("prefill-0", "winnow_selection_digest_mismatch_total",
                          'winnow_requests_total{code="INTERNAL"}', 'winnow_wasted_tokens_total{reason="failed"}',
                          during=self.fail_under("prefill.digest corrupt on=1 times=1"))
        self.assert_answers(policy="claa")


class SlowReceiverTest(MovedByFaultTest):
    options = {**FaultTest.options, "lease_ttl_ms": 20000, "streams_per_rank": 1}

    def test_1_a_receiver_that_gives_no_credits_while_the_prompt_is_computed(self):
        def during():
            computed = self.page("prefill-0")["winnow_prefill_computed_tokens_total"]
            self.set_faults("decode.push.chunk hold")
            child = self.start(policy="full")  # 17 MB of KV, credits for 4
            self.wait_until(lambda: self.page("prefill-0")["winnow_prefill_computed_tokens_total"] >= computed + 600, 60,
                            "the prompt was not computed")
            self.set_faults()
            self.assertEqual(self.finish(child)["text"].strip(), SHORT.answer)
        self.assert_moves("prefill-0", "winnow_kv_credit_stall_seconds_total", during=during)

    def test_2_these_and_those_before_are_all_that_need_a_fault(self):
        self.assertEqual(NEEDS_FAULT - seen, set())


if __name__ == "__main__":
    unittest.main()
