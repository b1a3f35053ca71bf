"""Random faults at every step of the protocol, under load: right answers or clean failures, and nothing leaks.

WINNOW_CHAOS_S is how long it lasts (20), WINNOW_CHAOS_SEED what is drawn (1). Needs programs with fault points.
Processes that die are chaos_test.py's.
"""

import os
import random
import re
import time
import unittest

from fault_points_test import FAILURES, FaultTest
from traffic import Traffic

SECONDS = float(os.environ.get("WINNOW_CHAOS_S", "20"))
SEED = int(os.environ.get("WINNOW_CHAOS_SEED", "1"))
# What can go wrong, and how.
FAULTS = {
    "router.prefill": ["delay ms=200"],
    "router.decode": ["delay ms=200"],
    "router.abort": ["drop"],
    "prefill.reserve.answer": ["fail", "delay ms=300"],
    "prefill.push.open": ["fail"],
    "prefill.push.chunk": ["drop", "repeat", "corrupt", "fail", "delay ms=50"],
    "prefill.push.ack": ["drop"],
    "prefill.commit": ["fail"],
    "prefill.commit.answer": ["fail", "delay ms=300"],
    "prefill.renew": ["drop"],
    "prefill.abort": ["drop"],
    "prefill.rank": ["fail", "fail code=INTERNAL"],
    "prefill.step": ["fail", "delay ms=100"],
    "decode.reserve": ["fail", "fail code=RESOURCE_EXHAUSTED"],
    "decode.push.chunk": ["fail", "delay ms=50"],
    "decode.push.ack": ["drop"],
    "decode.commit": ["fail"],
    "decode.commit.answer": ["fail"],
    "decode.step": ["fail", "delay ms=50"],
}
OFTEN = {"prefill.push.chunk", "prefill.push.ack", "prefill.rank", "decode.push.chunk", "decode.push.ack", "decode.step"}


class FaultChaosTest(FaultTest):
    options = {**FaultTest.options, "prefill_workers": 2, "decode_workers": 2}

    def change_faults(self):
        """A few faults at a time, each at one hit in three to thirty, or in 30 to 300 where a request comes by often."""
        draw = random.Random(SEED)
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            points = draw.sample(sorted(FAULTS), draw.randint(1, 3))
            self.set_faults(f"seed {draw.randrange(1 << 30)}", *(
                f"{point} {draw.choice(FAULTS[point])} chance={draw.uniform(0.03, 0.3) * (0.1 if point in OFTEN else 1):.3f}"
                for point in points))
            time.sleep(draw.uniform(0.5, 2))
        self.set_faults()

    def fired(self):
        """{point: how often}"""
        logs = "".join(self.cluster.log(name) for name in self.cluster.processes())
        names = re.findall(r"fault point ([\w.]+):", logs)
        return {name: names.count(name) for name in sorted(set(names))}

    def test_right_answers_or_clean_failures(self):
        traffic = Traffic(self.cluster, seed=SEED)
        traffic.run(meanwhile=self.change_faults)
        fired = self.fired()
        failed = traffic.failed()
        print(f"\n{len(traffic.requests)} requests, {len(failed)} failed; faults: {fired}")
        self.assertGreater(sum(fired.values()), SECONDS / 2)
        self.assertGreater(len(traffic.requests) - len(failed), len(traffic.requests) / 2)
        self.assertEqual(traffic.wrong(), [])
        self.assertEqual([request for request in failed if request.error.code not in FAILURES], [])
        self.assert_nothing_leaks()
        self.assert_answers()


if __name__ == "__main__":
    unittest.main()
