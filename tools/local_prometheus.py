"""A Prometheus of one's own that scrapes a local cluster: for the tests of what it would show, and to draw it."""

import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

RULES = pathlib.Path(__file__).resolve().parent.parent / "deploy/prometheus/alerts.yaml"


class PrometheusError(Exception):
    """The server did not start, or refused a query; the text is what it said."""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class LocalPrometheus:
    """Up from `with` to its end, on loopback, with a data folder of its own. `targets` are host:port of /metrics pages."""

    def __init__(self, targets, scrape_interval_s=1, rules=RULES):
        self.targets, self.interval_s, self.rules = list(targets), scrape_interval_s, rules
        self.child = self._folder = None

    def __enter__(self):
        program = shutil.which("prometheus")
        if program is None:
            raise PrometheusError("prometheus is not installed; run scripts/setup test")
        self._folder = tempfile.TemporaryDirectory(prefix="winnow-prometheus-")
        folder = pathlib.Path(self._folder.name)
        # JSON is YAML, too.
        (folder / "prometheus.yaml").write_text(json.dumps({
            "global": {"scrape_interval": f"{self.interval_s}s", "evaluation_interval": f"{self.interval_s}s"},
            "rule_files": [str(self.rules)],
            "scrape_configs": [{"job_name": "winnow", "static_configs": [{"targets": self.targets}]}],
        }), encoding="utf-8")
        self.log = folder / "log"
        self.address = f"127.0.0.1:{free_port()}"
        with open(self.log, "wb") as log:
            self.child = subprocess.Popen(
                [program, f"--config.file={folder / 'prometheus.yaml'}", f"--storage.tsdb.path={folder / 'data'}",
                 f"--web.listen-address={self.address}", "--log.level=warn"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                env={"PATH": os.defpath})
        try:
            self._wait_ready(time.monotonic() + 60)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.child.terminate()
        try:
            self.child.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        self._folder.cleanup()

    def _wait_ready(self, deadline):
        while True:
            try:
                with urllib.request.urlopen(f"http://{self.address}/-/ready", timeout=5):
                    return
            except OSError:
                if self.child.poll() is not None or time.monotonic() > deadline:
                    raise PrometheusError(self.log.read_text(encoding="utf-8", errors="replace"))
                time.sleep(0.1)

    def _get(self, path, **parameters):
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise PrometheusError(f"{parameters}: {error.read().decode()}") from error

    def query(self, expression):
        """[({label: value}, number)] now; numbers may be NaN"""
        data = self._get("query", query=expression)
        if data["resultType"] == "scalar":
            return [({}, float(data["result"][1]))]
        return [(series["metric"], float(series["value"][1])) for series in data["result"]]

    def query_range(self, expression, begin, end, step_s):
        """[({label: value}, [(time, number)])]"""
        data = self._get("query_range", query=expression, start=begin, end=end, step=step_s)
        return [(series["metric"], [(when, float(value)) for when, value in series["values"]])
                for series in data["result"]]

    def rules_state(self):
        """Of all rules of the file: [{name, type, health, state, …}]"""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def targets_up(self):
        return sum(value for _, value in self.query("up"))


def for_range(expression, window="1m"):
    """A dashboard's expression with its own variables filled in."""
    return expression.replace("$__rate_interval", window).replace("$namespace", ".*")


def operands(expression):
    """What an alert compares: its expression without the comparisons and without absent()."""
    return re.sub(r"\s*(>|<|==|!=|>=|<=)\s*[\d.]+|\babsent\b", "", expression)
