#!/usr/bin/env python3
"""What every server program says of itself and of its flags. Environment: WINNOW_BIN_DIR."""

import os
import pathlib
import re
import subprocess
import unittest

BIN = pathlib.Path(os.environ["WINNOW_BIN_DIR"])
ROOT = pathlib.Path(__file__).resolve().parents[2]
WORKER_SECTIONS = ("Model and device", "Registration with routers", "TLS", "Logs and the status page")
SECTIONS = {
    "winnow-router": ("Router", "TLS", "Logs and the status page"),
    "winnow-prefill-worker": ("Prefill worker", *WORKER_SECTIONS),
    "winnow-decode-worker": ("Decode worker", *WORKER_SECTIONS),
}
SERVERS = tuple(SECTIONS)


def run(program, *arguments):
    return subprocess.run([BIN / program, *arguments], capture_output=True, text=True, check=False, timeout=60)


def flags_by_section(text):
    """{heading: [flag, …]} of a --help."""
    sections = {}
    for line in text.splitlines():
        if heading := re.fullmatch(r"([A-Z][a-z ]+|TLS):", line):
            flags = sections[heading[1]] = []
        elif flag := re.fullmatch(r"  --([a-z-]+)=(BOOL|INTEGER|NUMBER|TEXT|VALUE)( \(default .+\))?", line):
            flags.append(flag[1])
    return sections


class ProgramFlagsTest(unittest.TestCase):
    def test_help_begins_with_the_usage(self):
        for program in SERVERS:
            for flag in ("--help", "-h"):
                with self.subTest(program=program, flag=flag):
                    said = run(program, "--http-listen=:1", flag)
                    self.assertEqual(said.returncode, 0)
                    self.assertIn(f"\n  {program} --model DIR", said.stdout)
                    self.assertEqual(said.stderr, "")

    def test_help_has_a_section_for_each_subject(self):
        for program, titles in SECTIONS.items():
            with self.subTest(program=program):
                text = run(program, "--help").stdout
                sections = flags_by_section(text)
                self.assertEqual(tuple(sections), titles)
                for flags in sections.values():
                    self.assertEqual(flags, sorted(flags))
                self.assertNotRegex(text, r"\.cc|--[a-z-]*_")

    def test_help_shows_all_flags_of_ours_and_no_other(self):
        for program in SERVERS:
            with self.subTest(program=program):
                files = re.split(r"Flags from (\S+):", run(program, "--helpfull").stdout)[1:]
                known = [flag.replace("_", "-") for file, text in zip(files[::2], files[1::2]) if "absl/" not in file
                         for flag in re.findall(r"^    --(\w+)", text, re.MULTILINE)]
                shown = flags_by_section(run(program, "--help").stdout).values()
                self.assertEqual(sorted(sum(shown, [])), sorted(known))
                self.assertGreater(len(known), 15)

    def test_help_shows_types_and_defaults(self):
        text = run("winnow-router", "--help").stdout
        for line in ("--max-wait-s=INTEGER (default 10)", "--accept-registrations=BOOL (default false)",
                     "--listen=TEXT (default 127.0.0.1:50050)", "--model=TEXT", "--log-format=VALUE (default text)"):
            self.assertIn(f"\n  {line}\n      ", text)
        self.assertLessEqual(max(len(line) for line in text.splitlines() if line.startswith("      ")), 100)

    def test_what_follows_two_dashes_asks_for_no_help(self):
        self.assertIn("--model is empty", run("winnow-router", "--", "--help").stderr)

    def test_the_help_of_the_client_lists_its_exit_codes(self):
        header = (ROOT / "client/cli/commands.h").read_text(encoding="utf-8")
        codes = re.findall(r"kExit\w+ = (\d)", header)
        self.assertGreater(len(codes), 4)
        listed = re.search(r"It exits with (.*)", run("winnow", "--help").stdout, re.DOTALL)[1]
        self.assertEqual(re.findall(r"\d", listed), codes)

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
