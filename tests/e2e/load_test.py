"""winnow load: every request is accounted for, those that are answered and those that are turned away."""

import json
import subprocess
import unittest

from harness import BIN, ClusterTest


class LoadTest(ClusterTest):
    def load(self, *flags, **options):
        command = [str(BIN / "winnow"), "load", "--address", self.cluster.address, "--json", *flags]
        for name, value in options.items():
            command += ["--" + name.replace("_", "-"), str(value)]
        child = subprocess.run(command, capture_output=True, text=True, timeout=120)
        self.assertEqual(child.returncode, 0, child.stderr)
        return json.loads(child.stdout)

    def test_a_light_load_is_answered_whole(self):
        report = self.load(rate=20, requests=60, prompt_tokens="64:3,700:1", keep_ratio="full:1,0.2:1",
                           max_tokens=4, slo_ttft_ms=20000, seed=3)
        self.assertEqual((report["requests"], report["ok"], report["errors"]), (60, 60, {}))
        self.assertEqual(report["goodput_share"], 1)
        self.assertEqual(report["ttft_ms"]["count"], 60)
        self.assertEqual(report["second_token_ms"]["count"], 60)
        self.assertEqual(report["inter_token_ms"]["count"], 2 * 60)
        self.assertEqual(sum(d["count"] for d in report["ttft_ms_by_prompt_tokens"].values()), 60)
        ttft = report["ttft_ms"]
        self.assertLessEqual(ttft["p50"], ttft["p90"])
        self.assertLessEqual(ttft["p99"], ttft["max"])
        self.assertLessEqual(ttft["max"], report["total_ms"]["max"])

    def test_a_load_at_once_is_due_at_its_beginning_and_one_in_turn_overlaps_nowhere(self):
        options = {"requests": 6, "prompt_tokens": 300, "max_tokens": 3}
        at_once = self.load("--each", arrivals="at-once", **options)
        self.assertEqual((at_once["ok"], [one["due_s"] for one in at_once["each"]]), (6, [0] * 6))
        in_turn = self.load("--each", arrivals="in-turn", **options)
        self.assertEqual(in_turn["ok"], 6)
        for before, after in zip(in_turn["each"], in_turn["each"][1:]):
            self.assertGreaterEqual(after["due_s"], before["due_s"] + before["total_ms"] * 1e-3 - 1e-4)
        for one in at_once["each"] + in_turn["each"]:
            self.assertGreater(one["stages"]["full_layers"], 0)
            # Both are of the client's reads, which may find the two tokens at once.
            self.assertLessEqual(one["ttft_ms"], one["second_token_ms"])

    def test_what_is_turned_away_is_counted_by_code(self):
        report = self.load(rate=200, requests=80, prompt_tokens=600, max_tokens=2, max_in_flight=3)
        self.assertEqual(report["ok"] + sum(report["errors"].values()), 80)
        self.assertGreater(report["errors"].get("ABORTED", 0), 0)  # not sent: three waited
        self.assertGreater(report["ok"], 0)
        self.assert_answers()

    def test_a_prompt_that_is_too_long_fails_alone(self):
        report = self.load(rate=50, requests=20, prompt_tokens="40:1,50000:1", max_tokens=1)
        self.assertEqual(set(report["errors"]), {"INVALID_ARGUMENT"})
        self.assertEqual(report["ok"] + report["errors"]["INVALID_ARGUMENT"], 20)
        self.assertEqual(report["second_token_ms"]["count"], 0)

    def test_bad_command_lines(self):
        for options in (["--rate", "0"], ["--requests", "none"], ["--arrivals", "late"], ["--each"],
                        ["--prompt-tokens", "5:0"], ["--keep-ratio", "2"]):
            with self.subTest(options=options):
                child = subprocess.run([BIN / "winnow", "load", *options], capture_output=True, text=True, timeout=20)
                self.assertEqual(child.returncode, 2)
                self.assertRegex(child.stderr, options[0])


if __name__ == "__main__":
    unittest.main()
