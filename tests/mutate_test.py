#!/usr/bin/env python3
"""scripts/mutate in a toy tree, whose build is Python's compiler."""

import importlib.machinery
import importlib.util
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).resolve().parent.parent / "scripts/mutate"
TOY = """def clamp(x):
    if x < 0 or x == 99:
        return 0
    return x + 1
"""
TOY_TEST = """from toy import clamp
assert clamp(-5) == 0 and clamp(99) == 0 and clamp(3) == 4
"""


def load_script():
    loader = importlib.machinery.SourceFileLoader("mutate", str(SCRIPT))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("mutate", loader))
    loader.exec_module(module)
    return module


class RulesTest(unittest.TestCase):
    def assert_mutants(self, line, *expected):
        self.assertEqual(set(load_script().mutants_of(line)), set(expected))

    def test_comparisons_and_conjuncts(self):
        self.assert_mutants('  if (!a(x) && name != "a && b") {',
                            '  if (!a(x) || name != "a && b") {', '  if (!a(x) && name == "a && b") {',
                            '  if (name != "a && b") {', "  if (!a(x)) {", '  if (a(x) && name != "a && b") {')

    def test_sums_and_numbers(self):
        self.assert_mutants("  return a - 16;", "  return a + 16;", "  return a - 17;")

    def test_truth_and_statements(self):
        self.assert_mutants("  Close(true);", "  Close(false);", ";")
        self.assert_mutants("  *at = kEnd;", ";")
        self.assert_mutants("    continue;", "    ;")

    def test_comments_includes_and_declarations_stay(self):
        for line in ("  // a == b", '#include "a/b.h"', "class A {", "  int x;  // true", "template <typename T>"):
            self.assert_mutants(line)


class MutateTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        (self.root / "build/cpu-release").mkdir(parents=True)
        (self.root / "bin").mkdir()
        (self.root / "scripts").mkdir()
        shutil.copy(SCRIPT, self.root / "scripts/mutate")
        self.write_program("scripts/build", "true")
        self.write_program("bin/cmake", f"""exec {sys.executable} -c 'compile(open("toy.py").read(), "toy.py", "exec")'""")
        (self.root / "toy.py").write_text(TOY, encoding="utf-8")
        (self.root / "toy_test.py").write_text(TOY_TEST, encoding="utf-8")
        (self.root / "build/cpu-release/CTestTestfile.cmake").write_text(
            f'add_test(toy_test "{sys.executable}" "{self.root}/toy_test.py")', encoding="utf-8")
        git = ["git", "-c", "user.name=t", "-c", "user.email=t@t"]
        for words in (["init", "-q"], ["add", "toy.py"], ["commit", "-qm", "toy"]):
            subprocess.run([*git, *words], cwd=self.root, check=True)

    def write_program(self, name, command):
        (self.root / name).write_text(f"#!/bin/sh\n{command}\n", encoding="utf-8")
        (self.root / name).chmod(0o755)

    def toy(self):
        return (self.root / "toy.py").read_text(encoding="utf-8")

    def start(self, *arguments):
        environment = os.environ | {"PATH": f"{self.root}/bin:{os.environ['PATH']}", "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.Popen([self.root / "scripts/mutate", *arguments], cwd=self.root, env=environment, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def mutate(self, *arguments):
        before, child = self.toy(), self.start(*arguments)
        out, errors = child.communicate(timeout=60)
        self.assertEqual(self.toy(), before)
        return subprocess.CompletedProcess(arguments, child.returncode, out, errors)

    def test_a_mutant_that_fails_the_test_is_killed(self):
        child = self.mutate("toy.py", "toy_test", "--replace", "x + 1", "x + 2")
        self.assertEqual((child.returncode, child.stderr), (0, ""))
        self.assertEqual(child.stdout, "KILLED  toy.py:4\n  - return x + 1\n  + return x + 2\n1 killed, 0 survived\n")

    def test_a_mutant_that_no_test_sees_survives(self):
        child = self.mutate("toy.py:2", "toy_test", "--replace", "x < 0", "x <= -1")
        self.assertEqual(child.returncode, 1)
        self.assertTrue(child.stdout.startswith("SURVIVED  toy.py:2\n"))
        self.assertTrue(child.stdout.endswith("0 killed, 1 survived\n"))

    def test_a_mutant_that_does_not_build_counts_for_neither(self):
        child = self.mutate("toy.py", "toy_test", "--replace", "x < 0", "x <")
        self.assertTrue(child.stdout.startswith("DID NOT BUILD  toy.py:2\n"))
        self.assertTrue(child.stdout.endswith("0 killed, 0 survived\n"))

    def test_a_test_that_does_not_end_kills(self):
        child = self.mutate("toy.py", "toy_test", "--timeout", "1", "--replace", "return 0", "while 1: pass")
        self.assertTrue(child.stdout.endswith("1 killed, 0 survived\n"), child.stdout)

    def test_the_file_is_restored_when_a_signal_ends_the_run(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            child = self.start("toy.py", "toy_test", "--replace", "return 0", "while 1: pass")
            while self.toy() == TOY and child.poll() is None:
                pass
            child.send_signal(number)
            child.communicate(timeout=60)
            self.assertNotEqual(child.returncode, 0)
            self.assertEqual(self.toy(), TOY)

    def test_the_lines_changed_since_the_base_are_taken(self):
        (self.root / "toy.py").write_text(TOY.replace("x + 1", "x + (1)"), encoding="utf-8")
        child = self.mutate("toy.py", "toy_test")
        self.assertEqual(child.returncode, 0)
        self.assertEqual(child.stdout.count("KILLED  toy.py:4\n"), 2)
        self.assertTrue(child.stdout.endswith("2 killed, 0 survived\n"))

    def test_where_nothing_changes_it_refuses(self):
        for arguments in (["toy.py", "toy_test"], ["toy.py", "toy_test", "--replace", "y", "z"]):
            child = self.mutate(*arguments)
            self.assertEqual((child.returncode, child.stderr), (1, "mutate: nothing to change there\n"))

    def test_a_test_that_fails_anyway_is_refused(self):
        (self.root / "toy_test.py").write_text("assert False", encoding="utf-8")
        child = self.mutate("toy.py:4", "toy_test")
        self.assertEqual((child.returncode, child.stderr), (1, "mutate: toy_test fails without a mutant\n"))


if __name__ == "__main__":
    unittest.main()
