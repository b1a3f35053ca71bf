"""kill -9 of any process at random moments under load: only what was in flight there may fail.

WINNOW_CHAOS_S is how long it lasts (45), WINNOW_CHAOS_SEED what is drawn (1).
"""

import datetime
import os
import random
import time
import unittest

from harness import ClusterTest
from traffic import Traffic

SECONDS = float(os.environ.get("WINNOW_CHAOS_S", "45"))
SEED = int(os.environ.get("WINNOW_CHAOS_SEED", "1"))
PROCESSES = ("prefill-0", "prefill-1", "decode-0", "decode-1", "router")


class ChaosTest(ClusterTest):
    options = {"dtype": "f32", "prefill_workers": 2, "decode_workers": 2, "lease_ttl_ms": 2000}

    def kill_and_restart(self):
        """Fills self.away: (from the kill, until it is ready again, which process)."""
        draw = random.Random(SEED)
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            time.sleep(draw.uniform(0.2, 2.5))
            name = draw.choice(PROCESSES)
            killed = time.monotonic()
            self.cluster.kill(name)
            self.cluster.wait_dead(name)
            time.sleep(draw.uniform(0.0, 1.0))
            self.cluster.restart(name)
            self.away.append((killed, time.monotonic(), name))

    def may_fail(self, request):
        """Its router was away. What a worker had in flight when it was killed goes on elsewhere."""
        return any(request.begin <= back and request.end >= killed
                   for killed, back, name in self.away if name == "router")

    def test_others_answer_as_without_faults(self):
        self.away = []
        traffic = Traffic(self.cluster, seed=SEED)
        traffic.run(meanwhile=self.kill_and_restart)
        answered = len(traffic.requests) - len(traffic.failed())
        print(f"\n{len(traffic.requests)} requests, {len(traffic.failed())} failed, {len(self.away)} kills")
        self.assertGreater(len(self.away), SECONDS / 10)
        self.assertGreater(answered, 2 * len(self.away))
        self.assertEqual(traffic.wrong(), [])
        unforeseen = [request for request in traffic.failed() if not self.may_fail(request)]
        self.assertEqual(unforeseen, [], "".join(map(self.story, unforeseen)))
        self.assert_answers()
        self.assert_blocks_return()

    def story(self, request):
        """Who was away meanwhile, and what the router said."""
        away = [f"{name} away from {killed:.2f} to {back:.2f}" for killed, back, name in self.away
                if request.begin <= back and request.end >= killed]
        since_boot = time.time() - time.monotonic()  # the log has the time of day
        first, last = (datetime.datetime.fromtimestamp(since_boot + moment).strftime("%Y-%m-%dT%H:%M:%S.%f")
                       for moment in (request.begin, request.end + 0.1))
        said = (line for line in self.cluster.log("router").splitlines() if first <= line <= last)
        return "\n".join([f"\n{request}", *away, *said, ""])

    def assert_blocks_return(self):
        deadline = time.monotonic() + 8  # a generation without its router ends after 5 s
        while True:
            used = [self.cluster.metrics(f"decode-{i}")['winnow_kv_blocks{state="used"}'] for i in range(2)]
            if used == [0, 0]:
                return
            self.assertLess(time.monotonic(), deadline, f"blocks still used: {used}")
            time.sleep(0.1)


if __name__ == "__main__":
    unittest.main()
