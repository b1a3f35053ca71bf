"""SIGTERM under load: a worker finishes or hands over what it has, and no request fails."""

import concurrent.futures
import signal
import time
import unittest

from harness import SHORT, ClusterTest
from traffic import Traffic


class DrainTest(ClusterTest):
    options = {"dtype": "f32", "prefill_workers": 2, "decode_workers": 2}

    def drain_and_return(self, name):
        time.sleep(1.0)
        self.cluster.kill(name, signal.SIGTERM)
        self.cluster.wait_dead(name)
        self.assert_logs_no_error(name)
        time.sleep(1.0)
        self.cluster.restart(name)

    def test_every_worker_in_turn(self):
        traffic = Traffic(self.cluster)
        for name in ("prefill-0", "decode-0", "prefill-1", "decode-1"):
            with self.subTest(name=name):
                before = len(traffic.requests)
                traffic.run(meanwhile=lambda name=name: self.drain_and_return(name))
                self.assertGreater(len(traffic.requests) - before, 4, "there was no load")
                self.assertEqual(traffic.failed(), [])
                self.assertEqual(traffic.wrong(), [])


class ShortGraceTest(ClusterTest):
    options = {"dtype": "f32", "decode_workers": 2, "drain_timeout_s": 1}

    def test_generations_that_outlast_the_grace_time_move(self):
        def generate():
            return self.ask(SHORT, policy="claa", max_tokens=2000, ignore_eos=True)["token_ids"]

        def decoded():
            return self.cluster.metrics("decode-0")["winnow_generation_tokens_total"]
        expected = generate()
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            before = decoded()
            running = [pool.submit(generate) for _ in range(2)]  # one on each decode worker
            deadline = time.monotonic() + 120
            while decoded() < before + 10:
                self.assertLess(time.monotonic(), deadline, "decode-0 makes no tokens")
                time.sleep(0.02)
            self.cluster.kill("decode-0", signal.SIGTERM)
            for request in running:
                self.assertEqual(request.result(timeout=120), expected)
        self.cluster.wait_dead("decode-0")
        moved = {series: value for series, value in self.cluster.metrics("router").items()
                 if series.startswith("winnow_migrations_total") and value > 0}
        self.assertTrue(moved, "the generation had ended before the grace time did")


if __name__ == "__main__":
    unittest.main()
