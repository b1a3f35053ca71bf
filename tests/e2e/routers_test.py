"""Several routers in front of the same workers, which hold their own limits whoever asks."""

import json
import subprocess
import threading
import unittest

from harness import BIN, ClusterTest

ROUTERS = ("router", "router-1", "router-2")
WORKERS = tuple(f"prefill-{i}" for i in range(4))
LIMIT = 3  # requests of a prefill worker
REQUESTS = 100


class RoutersTest(ClusterTest):
    options = {"routers": len(ROUTERS), "prefill_workers": len(WORKERS), "max_queue": LIMIT, "threads": 1,
               "kv_cache_mib": 512}

    def start_load(self, router, requests):
        """All at once, for a person: the report comes when every request has ended."""
        return subprocess.Popen(
            [BIN / "winnow", "load", "--address", self.cluster.processes()[router]["address"], "--json",
             "--rate", "10000", "--requests", str(requests), "--prompt-tokens", "600", "--max-tokens", "2"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def test_no_worker_takes_more_than_its_limit(self):
        most = dict.fromkeys(WORKERS, 0)
        done = threading.Event()

        def watch():
            while not done.is_set():
                for worker in WORKERS:
                    most[worker] = max(most[worker], self.cluster.metrics(worker)["winnow_requests_inflight"])

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            shares = (34, 33, 33)
            loads = [self.start_load(router, share) for router, share in zip(ROUTERS, shares)]
            reports = []
            for child, share in zip(loads, shares):
                output, errors = child.communicate(timeout=300)
                self.assertEqual(child.returncode, 0, errors)
                reports.append(json.loads(output))
                self.assertEqual(reports[-1]["ok"] + sum(reports[-1]["errors"].values()), share)
        finally:
            done.set()
            watcher.join()
        answered = sum(report["ok"] for report in reports)
        codes = {code for report in reports for code in report["errors"]}
        print(f"\n{answered} of {REQUESTS} answered, the rest {codes or '{}'}; most requests at a time: {most}")
        self.assertLessEqual(codes, {"RESOURCE_EXHAUSTED"})
        self.assertGreaterEqual(answered, LIMIT * len(WORKERS))
        for worker in WORKERS:
            self.assertLessEqual(most[worker], LIMIT)
            self.assertGreater(self.cluster.metrics(worker)["winnow_prefill_ttft_seconds_count"], 0)
        self.assert_answers()


if __name__ == "__main__":
    unittest.main()
