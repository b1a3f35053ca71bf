#!/usr/bin/env python3
"""bench/load_table.py end to end, with the demo model and loads of seconds."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SMALL = ["--device", "cpu", "--model", "demo", "--tokens", "64,256,400,600", "--kv-cache-mib", "256"]


class LoadTableTest(unittest.TestCase):
    def run_table(self, *arguments):
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(folder, "table.json")
            child = subprocess.run([sys.executable, ROOT / "bench/load_table.py", *SMALL, "--out", out, *arguments],
                                   capture_output=True, text=True, timeout=240, env=dict(os.environ))
            self.assertEqual(child.returncode, 0, child.stderr)
            return json.loads(out.read_text(encoding="utf-8")), child.stdout

    def test_a_burst_and_arrivals_are_rows_beside_their_ideal(self):
        table, text = self.run_table("--only", "burst-256-claa,poisson-full", "--burst-medium", "3", "--pauses", "0",
                                     "--mixes", "mixed", "--shares", "0.5", "--seconds", "0.1")
        self.assertEqual((table["failed"], table["left_out"]), ({}, []))
        self.assertEqual([row["what"] for row in table["rows"]],
                         ["3 x 256 claa 0.1, 1", "3 x 256 claa 0.1, 2, after 0 s", "3 x 256 claa 0.1, token 0 alone",
                          "poisson 0.5, mixed full"])
        self.assertEqual(set(table["starts_s"]), {"burst-256-claa", "poisson-full"})
        for row in table["rows"]:
            self.assertIn(row["what"], text)
            self.assertEqual((row["ok"], row["errors"]), (row["requests"], {}))
            handed_over = row["requests"] if row["max_tokens"] > 1 else 0
            self.assertEqual(row["handoff"]["count"], handed_over)
            self.assertEqual(row["gap_ms"]["mean"] > 0, handed_over > 0)
        engine_s = table["engine"]["ms"]["256"]["claa 0.1"] * 1e-3
        self.assertAlmostEqual(table["rows"][0]["ideal_ttft_ms"]["last"], 3 * engine_s * 1e3, delta=0.02)

    def test_a_load_beyond_the_budget_is_left_out_and_told(self):
        table, _ = self.run_table("--only", "alone", "--budget-s", "1")
        self.assertEqual((table["rows"], table["left_out"]), ([], ["alone"]))

    def test_a_part_that_does_not_exist_is_named(self):
        child = subprocess.run([sys.executable, ROOT / "bench/load_table.py", "--only", "bursts"], capture_output=True,
                               text=True, timeout=20)
        self.assertEqual(child.returncode, 2)
        self.assertIn("bursts", child.stderr)


if __name__ == "__main__":
    unittest.main()
