#!/usr/bin/env python3
"""What every server program says of itself and of its flags. Environment: WINNOW_BIN_DIR."""

import os
import pathlib
import subprocess
import unittest

BIN = pathlib.Path(os.environ["WINNOW_BIN_DIR"])
SERVERS = ("winnow-router", "winnow-prefill-worker", "winnow-decode-worker")


def run(program, *arguments):
    return subprocess.run([BIN / program, *arguments], capture_output=True, text=True, check=False, timeout=60)


class ProgramFlagsTest(unittest.TestCase):
    def test_help_shows_the_usage_and_all_flags_of_ours(self):
        for program in SERVERS:
            for flag in ("--help", "-h"):
                with self.subTest(program=program, flag=flag):
                    text = run(program, flag).stdout
                    self.assertIn(f"{program} --model DIR", text)
                    for known in ("--http_listen", "--drain_timeout_s", "--tls_cert"):
                        self.assertIn(known, text)
                    self.assertNotIn("--flagfile", text)

    def test_version_names_the_build(self):
        for program in (*SERVERS, "winnow"):
            with self.subTest(program=program):
                said = run(program, "--version")
                self.assertEqual(said.returncode, 0)
                self.assertRegex(said.stdout, rf"\A{program} \d+\.\d+\.\d+ \(cpu(\+cuda)?\)\n\Z")

    def test_a_flag_that_does_not_exist_or_parse_is_named(self):
        for program in SERVERS:
            for flag in ("--no-such-flag=1", "--drain-timeout-s=soon", "--log-level=inof"):
                with self.subTest(program=program, flag=flag):
                    said = run(program, flag)
                    self.assertEqual(said.returncode, 1)
                    self.assertIn(flag[2:].partition("=")[0].replace("-", "_"), said.stderr)

    def test_a_value_out_of_range_is_refused_with_its_range(self):
        said = run("winnow-prefill-worker", "--model=models/demo", "--max-queue=0")
        self.assertEqual(said.returncode, 1)
        self.assertIn("--max-queue must be at least 1, got 0", said.stderr)


if __name__ == "__main__":
    unittest.main()
