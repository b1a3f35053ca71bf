#!/usr/bin/env python3
"""`winnow size`: the numbers of its own example, and what it refuses. Environment: WINNOW_BIN_DIR."""

import json
import os
import pathlib
import subprocess
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
WINNOW = pathlib.Path(os.environ["WINNOW_BIN_DIR"]) / "winnow"
WORKERS = ["--prefill-time", "8000:2.1", "--inter-token-ms", "12", "--decode-kv-gib", "1"]


def size(*arguments, model="models/demo", workers=WORKERS):
    return subprocess.run([WINNOW, "size", model, *workers, *arguments], cwd=ROOT, capture_output=True, text=True,
                          check=False, timeout=60)


class SizeCommandTest(unittest.TestCase):
    def sized(self, *arguments):
        child = size("--json", *arguments)
        self.assertEqual(child.returncode, 0, child.stderr)
        return json.loads(child.stdout)

    def assert_refused(self, code, words, *arguments, **how):
        child = size(*arguments, **how)
        self.assertEqual(child.returncode, code, child.stderr)
        self.assertRegex(child.stderr, words)
        self.assertEqual(child.stdout, "")

    def test_the_example_of_its_help_works(self):
        text = subprocess.run([WINNOW, "size", "--help"], capture_output=True, text=True, check=True, timeout=60).stdout
        words = text.strip().splitlines()[-1].split()
        self.assertEqual(words[:2], ["winnow", "size"])
        child = subprocess.run([WINNOW, *words[1:]], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
        self.assertRegex(child.stdout, r"prefill workers  \d+ +busy \d+ %")
        self.assertRegex(child.stdout, r"decode workers   \d+ ")

    def test_an_unpruned_prompt_of_the_measured_length_takes_the_measured_time(self):
        # Rare enough that nobody waits.
        answer = self.sized("--rate", "0.001", "--prompt-tokens", "8000", "--keep-ratio", "full", "--ttft-slo-s", "3")
        self.assertAlmostEqual(answer["ttft_s"], 2.1)
        self.assertEqual((answer["prefill_workers"], answer["decode_workers"]), (1, 1))

    def test_pruning_needs_fewer_workers_and_less_memory(self):
        load = ["--rate", "8", "--prompt-tokens", "8000", "--ttft-slo-s", "5"]
        full, pruned = self.sized(*load, "--keep-ratio", "full"), self.sized(*load, "--keep-ratio", "0.1")
        self.assertLess(pruned["prefill_workers"], full["prefill_workers"])
        self.assertLess(pruned["decode_kv_bytes"], full["decode_kv_bytes"])
        mixed = self.sized(*load, "--keep-ratio", "full:1,0.1:1")
        self.assertLess(pruned["decode_kv_bytes"], mixed["decode_kv_bytes"])
        self.assertLess(mixed["decode_kv_bytes"], full["decode_kv_bytes"])

    def test_what_cannot_be_is_refused_in_words(self):
        self.assert_refused(2, "--rate is required")
        self.assert_refused(2, "--rate: must be above 0", "--rate", "-1")
        self.assert_refused(2, "--rate: must be above 0", "--rate", "nan")
        self.assert_refused(2, "--quantile: must be above 0 and below 1", "--rate", "1", "--quantile", "1")
        self.assert_refused(2, "--prefill-time: expected TOKENS:SECONDS, got '8000'", "--rate", "1", "--prefill-time", "8000")
        self.assert_refused(2, "--decode-kv-gib is required", "--rate", "1", workers=WORKERS[:4])
        self.assert_refused(3, "more than the model's context", "--rate", "1", "--prompt-tokens", "40000")
        self.assert_refused(3, "more workers do not help", "--rate", "1", "--ttft-slo-s", "0.1")
        self.assert_refused(3, "a sequence reserves", "--rate", "1", "--decode-kv-gib", "0.001", "--ttft-slo-s", "5")


if __name__ == "__main__":
    unittest.main()
