"""Many requests on one cluster: every token right, memory and block counts flat.

WINNOW_SOAK_REQUESTS is how many (500).
"""

import os
import pathlib
import unittest

from harness import ClusterTest
from traffic import DOCUMENTS, Traffic

REQUESTS = int(os.environ.get("WINNOW_SOAK_REQUESTS", "500"))
GROWTH = 1.05  # of resident memory, from the second fifth to the end
GROWTH_MIB = 16


class SoakTest(ClusterTest):
    options = {"dtype": "f32"}

    def resident_mib(self):
        sizes = {}
        for name, process in self.cluster.processes().items():
            status = pathlib.Path("/proc", str(process["pid"]), "status").read_text(encoding="utf-8")
            kib = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
            sizes[name] = int(kib) / 1024
        return sizes

    def test_tokens_and_memory(self):
        traffic = Traffic(self.cluster)
        # What a process keeps of freed memory is as much as it once needed: first the most at a time, the longest
        # prompts unpruned, so that no chance meeting later needs more.
        longest = REQUESTS // 10
        traffic.run(count=longest, kinds=[(DOCUMENTS[-1], "full")])
        traffic.run(count=REQUESTS * 2 // 5 - longest)
        early = self.resident_mib()
        traffic.run(count=REQUESTS - REQUESTS * 2 // 5)
        late = self.resident_mib()
        print(f"\nresident MiB: {early} → {late}")
        self.assertEqual(len(traffic.requests), REQUESTS)
        self.assertEqual(traffic.failed(), [])
        self.assertEqual(traffic.wrong(), [])
        for name, mib in late.items():
            self.assertLess(mib, GROWTH * early[name] + GROWTH_MIB, name)
        decode, prefill = self.cluster.metrics("decode-0"), self.cluster.metrics("prefill-0")
        self.assertEqual(decode['winnow_kv_blocks{state="used"}'], 0)
        self.assertEqual(decode["winnow_kv_reservations_active"], 0)
        self.assertEqual(prefill["winnow_kv_staging_bytes"], 0)


if __name__ == "__main__":
    unittest.main()
