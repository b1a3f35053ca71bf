"""winnow canary: right, wrong, and nobody there; its metrics, as a file and as a page."""

import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
from harness import BIN, SHORT, ClusterTest, unittest  # noqa: E402
from local_prometheus import free_port  # noqa: E402
from metric_list import expected_series, listed, parse_page  # noqa: E402

RIGHT, WRONG, USAGE, TRY_LATER, CANCELLED = 0, 1, 2, 4, 5


class CanaryTest(ClusterTest):
    def setUp(self):
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory(prefix="winnow-canary-")))
        self.textfile = folder / "winnow.prom"
        self.question = folder / "question"
        self.question.write_text(SHORT.prompt, encoding="utf-8")

    def command(self, expected, address=None, *options):
        return [BIN / "winnow", "canary", "--address", address or self.cluster.address, "--prompt-file", self.question,
                "--expect", expected, "--max-tokens", "16", *options]

    def ask(self, expected, address=None):
        """The exit code and what the textfile says."""
        asked = subprocess.run(self.command(expected, address, "--textfile", self.textfile), capture_output=True, check=False)
        return asked.returncode, parse_page(self.textfile.read_text(encoding="utf-8"))

    def value(self, page, name, **labels):
        return page[name].values[frozenset(labels.items())]

    def test_a_right_answer(self):
        begin = time.time()
        code, page = self.ask(SHORT.answer)
        self.assertEqual(code, RIGHT)
        self.assertEqual(self.value(page, "winnow_canary_right"), 1)
        self.assertEqual(self.value(page, "winnow_canary_runs_total", outcome="right"), 1)
        self.assertGreaterEqual(self.value(page, "winnow_canary_last_run_timestamp_seconds"), begin - 1)
        self.assertGreater(self.value(page, "winnow_canary_duration_seconds"),
                           self.value(page, "winnow_canary_ttft_seconds"))

    def test_a_wrong_answer(self):
        code, page = self.ask("no such answer")
        self.assertEqual(code, WRONG)
        self.assertEqual(self.value(page, "winnow_canary_right"), 0)
        self.assertEqual(self.value(page, "winnow_canary_runs_total", outcome="wrong"), 1)

    def test_nobody_there(self):
        code, page = self.ask(SHORT.answer, address=f"127.0.0.1:{free_port()}")
        self.assertEqual(code, TRY_LATER)
        self.assertEqual(self.value(page, "winnow_canary_right"), 0)
        self.assertEqual(self.value(page, "winnow_canary_runs_total", outcome="error"), 1)

    def test_its_metrics_are_the_listed_ones(self):
        page = self.ask(SHORT.answer)[1]
        expected = expected_series(listed(), "canary")
        self.assertEqual({name: set(metric.values) for name, metric in page.items()}, dict(expected))
        said = subprocess.run(["promtool", "check", "metrics"], input=self.textfile.read_text(encoding="utf-8"),
                              capture_output=True, text=True, check=False)
        self.assertEqual((said.returncode, said.stdout + said.stderr), (0, ""))

    def test_again_and_again_until_it_is_stopped(self):
        http = f"127.0.0.1:{free_port()}"
        child = subprocess.Popen(self.command(SHORT.answer, None, "--http-listen", http, "--every-s", "0.1"),
                                 stdout=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    with urllib.request.urlopen(f"http://{http}/metrics", timeout=5) as page:
                        runs = self.value(parse_page(page.read().decode()), "winnow_canary_runs_total", outcome="right")
                    if runs >= 3:
                        break
                except OSError:
                    pass  # not up yet
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.05)
        finally:
            child.terminate()
        self.assertEqual(child.wait(timeout=60), 0)

    def test_it_can_be_stopped_while_it_asks(self):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            silent.settimeout(60)
            child = subprocess.Popen(self.command(SHORT.answer, f"127.0.0.1:{silent.getsockname()[1]}", "--textfile",
                                                  self.textfile), stderr=subprocess.PIPE)
            with silent.accept()[0]:
                child.terminate()
                self.assertIn(b"CANCELLED", child.communicate(timeout=60)[1])
        self.assertEqual(child.returncode, CANCELLED)
        self.assertFalse(self.textfile.exists())  # it tells nothing of the router

    def test_it_must_know_what_to_expect(self):
        asked = subprocess.run([BIN / "winnow", "canary", "--prompt", "Hello"], capture_output=True, text=True, check=False)
        self.assertEqual(asked.returncode, USAGE)
        self.assertIn("--expect", asked.stderr)


if __name__ == "__main__":
    unittest.main()
