"""Something goes wrong at every step of the protocol: the right answer or a clean failure, and nothing leaks.

Needs programs with fault points (common/fault.h), which the presets of the sanitizers build.
"""

import os
import pathlib
import subprocess
import tempfile
import time

from harness import SHORT, ClusterTest, RequestError, generate_command, unittest
from local_cluster import parse_answer

TTL_S = 2  # of reservations in these clusters
SLACK_S = 1
# What a client may hear when a request fails through no fault of its own.
FAILURES = ("UNAVAILABLE", "INTERNAL", "RESOURCE_EXHAUSTED")
KV_IN_USE = ('winnow_kv_blocks{state="used"}', "winnow_kv_reservations_active")


class FaultTest(ClusterTest):
    """A cluster whose fault points read their rules from a file of this test."""

    options = {"chunk_tokens": 128, "lease_ttl_ms": 1000 * TTL_S, "dtype": "f32"}

    @classmethod
    def setUpClass(cls):
        folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory(prefix="winnow-faults-")))
        cls.fault_file = folder / "rules"
        cls.set_faults()
        os.environ["WINNOW_FAULT_FILE"] = str(cls.fault_file)  # the cluster's processes inherit it
        cls.addClassCleanup(os.environ.pop, "WINNOW_FAULT_FILE")
        super().setUpClass()

    def setUp(self):
        self.addCleanup(self.set_faults)

    @classmethod
    def set_faults(cls, *rules):
        fresh = cls.fault_file.with_suffix(".new")
        fresh.write_text("".join(rule + "\n" for rule in rules), encoding="utf-8")
        fresh.replace(cls.fault_file)

    def num_fired(self, point):
        return sum(self.cluster.log(name).count(f"fault point {point}:") for name in self.cluster.processes())

    def wait_fired(self, point, before, timeout_s=30):
        self.wait_until(lambda: self.num_fired(point) > before, timeout_s, f"{point} was not reached")

    def wait_until(self, holds, timeout_s, text):
        deadline = time.monotonic() + timeout_s
        while not holds():
            self.assertLess(time.monotonic(), deadline, text)
            time.sleep(0.05)

    def leaks(self):
        """What is held although nothing runs: {'process series': value}"""
        held = {}
        for name in self.cluster.processes():
            if not self.cluster.is_running(name):
                continue
            page = self.cluster.metrics(name)
            if name.startswith("decode"):
                found = {series: page[series] for series in KV_IN_USE}
            elif name.startswith("prefill"):
                staging = page["winnow_kv_staging_bytes"] - page["winnow_kv_pinned_bytes"]
                found = {"inflight": page["winnow_requests_inflight"], "staging": staging}
            else:
                found = {"inflight": page["winnow_requests_inflight"]}
            held.update({f"{name} {series}": value for series, value in found.items() if value != 0})
        return held

    def assert_nothing_leaks(self, within_s=TTL_S + SLACK_S):
        deadline = time.monotonic() + within_s
        while held := self.leaks():
            self.assertLess(time.monotonic(), deadline, f"still held after {within_s} s: {held}")
            time.sleep(0.05)

    def start(self, **options):
        """A request in a process of its own, which can be killed."""
        prompt = self.fault_file.with_name("prompt")
        prompt.write_text(SHORT.prompt, encoding="utf-8")
        child = subprocess.Popen(
            generate_command(self.cluster.address, prompt_file=prompt, **{"max_tokens": 16, **options}),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(child.communicate)  # closes its pipes
        self.addCleanup(child.kill)
        return child

    def finish(self, child):
        output, errors = child.communicate(timeout=120)
        return parse_answer(output, errors, child.returncode)


class OneFaultTest(FaultTest):
    """One fault at one step. The router tries again: the client gets the right answer."""

    def check_answers(self, point, rule):
        with self.subTest(point=point, rule=rule):
            before = self.num_fired(point)
            self.set_faults(f"{point} {rule}")
            self.assert_answers()
            self.assertGreater(self.num_fired(point), before, "the request never came there")
            self.set_faults()
            self.assert_nothing_leaks()

    def test_a_step_that_fails_once_is_tried_again(self):
        for point in ("prefill.step", "prefill.rank", "prefill.reserve.answer", "prefill.push.open",
                      "prefill.push.chunk", "prefill.commit", "prefill.commit.answer", "decode.reserve",
                      "decode.push.chunk", "decode.commit", "decode.commit.answer"):
            self.check_answers(point, "fail times=1")

    def test_a_message_that_is_lost_once_is_sent_again(self):
        self.check_answers("prefill.push.chunk", "drop times=1 after=5")
        self.check_answers("prefill.push.ack", "drop times=1")
        self.check_answers("decode.push.ack", "drop times=1")

    def test_a_flipped_bit_never_commits(self):
        mismatches = 'winnow_kv_transfer_failures_total{reason="data_loss"}'
        for after in (0, 7, 40):
            before = self.cluster.metrics("decode-0")[mismatches]
            self.check_answers("prefill.push.chunk", f"corrupt times=1 after={after}")
            self.assertEqual(self.cluster.metrics("decode-0")[mismatches], before + 1)

    def test_chunks_that_come_twice_are_harmless(self):
        self.check_answers("prefill.push.chunk", "repeat")

    def test_the_last_chunks_never_arrive(self):
        # Nothing behind them shows the gap: only the silence does.
        self.check_answers("prefill.push.chunk", "drop times=4 after=60")

    def test_a_full_decode_worker_is_asked_again(self):
        self.check_answers("decode.reserve", "fail times=2 code=RESOURCE_EXHAUSTED")


class LastingFaultTest(FaultTest):
    """A step that fails again and again: a clean failure, nothing held, and the cluster lives."""

    def check_fails(self, *rules, within_s=TTL_S + SLACK_S):
        with self.subTest(rules=rules):
            self.set_faults(*rules)
            with self.assertRaises(RequestError) as caught:
                self.ask(SHORT)
            self.assertIn(caught.exception.code, FAILURES, caught.exception.text)
            self.assert_nothing_leaks(within_s)
            self.set_faults()
            self.assert_answers()

    def test_every_step(self):
        for point in ("prefill.step", "prefill.reserve.answer", "prefill.push.open", "prefill.push.chunk",
                      "prefill.commit", "prefill.commit.answer", "decode.reserve", "decode.push.chunk",
                      "decode.commit", "decode.commit.answer", "decode.step"):
            self.check_fails(f"{point} fail")
        self.check_fails("prefill.push.chunk corrupt")

    def test_a_refusal_frees_the_prefill_side_at_once(self):
        self.check_fails("decode.reserve fail code=RESOURCE_EXHAUSTED", within_s=1)

    def test_without_an_abort_the_lease_frees(self):
        self.check_fails("prefill.commit fail", "prefill.abort drop", "router.abort drop")

    def test_a_lease_that_is_not_renewed_ends(self):
        expired = "winnow_kv_leases_expired_total"
        before = self.cluster.metrics("decode-0")[expired]
        self.set_faults("prefill.renew drop", f"prefill.step delay times=1 ms={1500 * TTL_S}")
        self.assert_answers()  # by another attempt
        self.assert_nothing_leaks()
        self.assertGreater(self.cluster.metrics("decode-0")[expired], before)


class KillTest(FaultTest):
    """A worker that dies at a step. It comes back at the same address, and the next request gets its answer."""

    def check_kill(self, name, rule):
        with self.subTest(rule=rule):
            self.set_faults(rule)
            child = self.start()
            self.cluster.wait_dead(name)
            self.set_faults()
            self.cluster.restart(name)
            try:
                self.assertEqual(self.finish(child)["text"].strip(), SHORT.answer)
            except RequestError as error:
                self.assertIn(error.code, FAILURES, error.text)
            self.assert_nothing_leaks()
            self.wait_until(self.answers, 30, "no answer after the restart")

    def answers(self):
        try:
            return self.ask(SHORT)["text"].strip() == SHORT.answer
        except RequestError as error:
            self.assertIn(error.code, FAILURES, error.text)
            return False

    def test_a_prefill_worker_dies(self):
        for rule in ("prefill.reserve.answer kill", "prefill.step kill after=3", "prefill.push.chunk kill after=10",
                     "prefill.commit kill", "prefill.commit.answer kill"):
            self.check_kill("prefill-0", rule)

    def test_a_decode_worker_dies(self):
        for rule in ("decode.reserve kill", "decode.push.chunk kill after=10", "decode.commit kill",
                     "decode.commit.answer kill", "decode.step kill after=2"):
            self.check_kill("decode-0", rule)

    def test_a_device_is_lost(self):
        for name, point in (("prefill-0", "prefill.device"), ("decode-0", "decode.device")):
            self.check_kill(name, f"{point} fail")

    def test_a_router_dies(self):
        for rule in ("router.prefill kill", "router.decode kill"):
            with self.subTest(rule=rule):
                self.set_faults(rule)
                child = self.start()
                self.cluster.wait_dead("router")
                self.set_faults()
                with self.assertRaises(RequestError) as caught:
                    self.finish(child)
                self.assertEqual(caught.exception.code, "UNAVAILABLE")
                self.assert_nothing_leaks(within_s=5 + TTL_S + SLACK_S)  # decode waits 5 s for its listener
                self.cluster.restart("router")
                self.assert_answers()


class StopTest(FaultTest):
    """The client goes away, or its deadline passes, while a stage is held up."""

    # Where it waits → the stage that the router counts.
    STAGES = {"router.prefill": "prefill", "decode.reserve": "prefill", "prefill.step": "prefill",
              "decode.push.chunk": "prefill", "decode.commit": "prefill", "decode.step": "decode"}

    def count(self, point):
        return self.cluster.metrics("router")[f'winnow_cancellations_total{{stage="{self.STAGES[point]}"}}']

    def assert_stops(self, point):
        """Once it goes on, all is free within a second, and no more work follows than what had begun."""
        if point.startswith("decode."):  # it holds up nobody else
            self.wait_until(lambda: self.cluster.metrics("prefill-0")["winnow_requests_inflight"] == 0, SLACK_S,
                            "the prefill worker went on")
        begun = self.num_fired(point)
        self.set_faults(f"{point} delay ms=1")  # to be counted
        self.assert_nothing_leaks(within_s=SLACK_S)
        if point != "decode.push.chunk":  # there, what was sent before its sender stopped is still on the wire
            self.assertLessEqual(self.num_fired(point), begun + 2, "work went on")
        self.set_faults()
        self.assert_answers()

    def test_a_client_that_goes_away(self):
        for point in self.STAGES:
            with self.subTest(point=point):
                counted, fired = self.count(point), self.num_fired(point)
                self.set_faults(f"{point} hold")
                child = self.start()
                self.wait_fired(point, fired)
                child.kill()
                child.wait()
                if point == "router.prefill":  # where it waits itself, the router hears nothing
                    self.set_faults("prefill.step hold")
                self.wait_until(lambda: self.count(point) > counted, 30, "the router did not notice")
                self.assert_stops(point)
                self.assertEqual(self.count(point), counted + 1)

    def test_a_deadline_that_passes(self):
        for point in ("decode.reserve", "prefill.step", "decode.push.chunk", "decode.step"):
            with self.subTest(point=point):
                self.set_faults(f"{point} hold")
                child = self.start(timeout_s=2, max_tokens=200, ignore_eos=True)
                with self.assertRaises(RequestError) as caught:
                    self.finish(child)
                self.assertEqual(caught.exception.code, "DEADLINE_EXCEEDED", caught.exception.text)
                self.assert_stops(point)


class RankTest(FaultTest):
    """One rank of two fails or hangs: all leave together, and the worker goes on."""

    options = {**FaultTest.options, "prefill_tp": 2, "step_timeout_s": 3}

    def test_one_rank_fails(self):
        for rank in (0, 1):
            with self.subTest(rank=rank):
                self.set_faults(f"prefill.rank fail on={rank} after=5 times=1")
                self.assert_answers()
                self.assert_nothing_leaks()

    def test_one_rank_hangs(self):
        self.set_faults("prefill.rank delay on=1 after=5 times=1 ms=5000")
        begin = time.monotonic()
        self.assert_answers()
        self.assertLess(time.monotonic() - begin, 30)
        self.assert_nothing_leaks()
        self.assertIn("fault point prefill.rank", self.cluster.log("prefill-0"))


if __name__ == "__main__":
    unittest.main()
