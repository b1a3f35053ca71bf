"""The run behind scripts/demo: one line of JSON, and nothing left when it is interrupted."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import unittest

from harness import BIN, ROOT

DEMO = [sys.executable, ROOT / "tools/demo.py"]
KEYS = ["expected", "answer_full", "answer_claa", "ttft_full_s", "ttft_claa_s", "prompt_tokens", "kept_tokens",
        "kv_bytes_full", "kv_bytes_claa", "prefill_tp"]


def running_servers():
    """Pids of this build's routers and workers."""
    found = set()
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            program = os.readlink(folder / "exe")
        except OSError:
            continue
        if program in {str(BIN / name) for name in ("winnow-router", "winnow-prefill-worker", "winnow-decode-worker")}:
            found.add(int(folder.name))
    return found


class DemoTest(unittest.TestCase):
    def setUp(self):
        self.before = running_servers()

    def started(self):
        return running_servers() - self.before

    def test_json_is_one_line_with_right_answers(self):
        child = subprocess.run([*DEMO, "--json", "--tokens", "2000"], capture_output=True, text=True, timeout=300,
                               check=False)
        self.assertEqual(child.returncode, 0, child.stderr)
        self.assertEqual(len(child.stdout.splitlines()), 1)
        result = json.loads(child.stdout)
        self.assertEqual(list(result), KEYS)
        self.assertEqual(result["answer_full"], result["expected"])
        self.assertEqual(result["answer_claa"], result["expected"])
        self.assertEqual(result["prefill_tp"], 2)
        self.assertLess(result["kept_tokens"], result["prompt_tokens"])
        self.assertLess(result["kv_bytes_claa"], result["kv_bytes_full"])
        self.assertEqual(self.started(), set())

    def test_ctrl_c_leaves_nothing_running(self):
        child = subprocess.Popen([*DEMO, "--tokens", "8000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                 text=True, start_new_session=True)
        for line in child.stderr:
            if "cluster is up" in line:
                break
        self.assertEqual(len(self.started()), 3)
        time.sleep(0.3)
        os.killpg(child.pid, signal.SIGINT)
        _, errors = child.communicate(timeout=60)
        self.assertEqual(child.returncode, 130, errors)
        self.assertEqual(self.started(), set())


if __name__ == "__main__":
    unittest.main()
