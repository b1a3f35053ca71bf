"""Workers replaced one by one by those of another version, under load: no request fails or answers differently."""

import signal
import time
import unittest

from harness import BIN, ClusterTest
from traffic import Traffic

BEFORE = BIN / "before"  # the workers as they were one wire version ago
PREFILL, DECODE = ("prefill-0", "prefill-1"), ("decode-0", "decode-1")


class UpgradeTest(ClusterTest):
    options = {"dtype": "f32", "prefill_workers": 2, "decode_workers": 2, "worker_bin": BEFORE}

    def replace(self, name, folder):
        time.sleep(1.0)  # load on what is there
        self.cluster.kill(name, signal.SIGTERM)
        self.cluster.wait_dead(name)
        self.assert_logs_no_error(name)
        self.cluster.restart(name, bin=folder)
        time.sleep(1.0)

    def wire_version(self, name):
        return self.cluster.log(name).split("wire version ")[1].split(",")[0]

    def replace_all(self, names, folder, version):
        traffic = Traffic(self.cluster)
        for name in names:
            with self.subTest(name=name, version=version):
                before = len(traffic.requests)
                traffic.run(meanwhile=lambda name=name: self.replace(name, folder))
                self.assertGreater(len(traffic.requests) - before, 4, "there was no load")
                self.assertEqual(traffic.failed(), [])
                self.assertEqual(traffic.wrong(), [])
                self.assertEqual(self.wire_version(name), version)

    def test_an_upgrade_and_its_rollback_lose_no_request(self):
        self.assertEqual({self.wire_version(name) for name in PREFILL + DECODE}, {"2"})
        self.replace_all(PREFILL + DECODE, BIN, "3")
        self.replace_all(DECODE + PREFILL, BEFORE, "2")


if __name__ == "__main__":
    unittest.main()
