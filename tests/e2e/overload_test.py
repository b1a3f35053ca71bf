"""Three times what a cluster can do: it goes on doing what it can, and turns the rest away at once."""

import json
import subprocess
import time
import unittest

from harness import BIN, ClusterTest

TOKENS = 600  # of each prompt
DEADLINE_S = 4


class OverloadTest(ClusterTest):
    options = {"dtype": "f32"}

    def load(self, rate, requests, timeout_s):
        command = [BIN / "winnow", "load", "--address", self.cluster.address, "--json", "--rate", f"{rate:.3f}",
                   "--requests", str(requests), "--prompt-tokens", str(TOKENS), "--keep-ratio", "0.2",
                   "--max-tokens", "2", "--timeout-s", str(timeout_s)]
        child = subprocess.run(command, capture_output=True, text=True, timeout=300)
        self.assertEqual(child.returncode, 0, child.stderr)
        return json.loads(child.stdout)

    def test_goodput_at_three_times_the_capacity(self):
        alone = self.load(rate=1000, requests=120, timeout_s=120)
        self.assertEqual(alone["errors"], {})
        capacity = alone["ok"] / alone["seconds"]
        report = self.load(rate=3 * capacity, requests=int(3 * capacity * 20), timeout_s=DEADLINE_S)
        goodput = report["ok"] / report["seconds"]
        print(f"\ncapacity {capacity:.1f}/s, goodput at 3x {goodput:.1f}/s, errors {report['errors']}")
        self.assertGreater(goodput, 0.7 * capacity)
        self.assertLessEqual(set(report["errors"]), {"RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"})
        turned_away = report["errors"].get("RESOURCE_EXHAUSTED", 0)
        self.assertGreater(turned_away, 9 * report["errors"].get("DEADLINE_EXCEEDED", 0))
        self.assert_answers()
        self.assert_nothing_is_held()

    def assert_nothing_is_held(self):
        deadline = time.monotonic() + 3
        while True:
            prefill, decode = self.cluster.metrics("prefill-0"), self.cluster.metrics("decode-0")
            held = (prefill["winnow_kv_staging_bytes"], prefill["winnow_requests_inflight"],
                    decode['winnow_kv_blocks{state="used"}'], decode["winnow_kv_reservations_active"])
            if not any(held):
                return
            self.assertLess(time.monotonic(), deadline, f"staging, jobs, blocks, reservations: {held}")
            time.sleep(0.05)


if __name__ == "__main__":
    unittest.main()
