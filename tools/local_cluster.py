"""A Winnow cluster of one's own and requests to it, for the demo, the measurements and the tests.

Thin: scripts/cluster starts and stops the processes, the `winnow` program speaks to them.
"""

import atexit
import json
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
BIN = pathlib.Path(os.environ.get("WINNOW_BIN_DIR", ROOT / "build/cpu-release/bin"))
COMPONENT = re.compile(r'component="\w+",?')  # a label of every metric
CODES = ("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "UNAVAILABLE", "UNAUTHENTICATED", "PERMISSION_DENIED",
         "DEADLINE_EXCEEDED", "CANCELLED", "INTERNAL", "FAILED_PRECONDITION", "NOT_FOUND",
         "UNIMPLEMENTED", "UNKNOWN", "ABORTED", "DATA_LOSS")


class RequestError(Exception):
    """`winnow generate` failed: the gRPC status it named, and its whole message."""

    def __init__(self, text, exit_status):
        super().__init__(text)
        found = re.search("|".join(rf"\b{code}\b" for code in CODES), text)
        self.code = found.group(0) if found else None
        self.text = text
        self.exit_status = exit_status


class ClusterError(Exception):
    """scripts/cluster failed; the text is what it said."""


def flags_of(options):
    """{"prefill_tp": 2, "json": True} -> ["--prefill-tp", "2", "--json"]"""
    flags = []
    for name, value in options.items():
        flag = "--" + name.replace("_", "-")
        if value is True:
            flags.append(flag)
        elif value is not None and value is not False:
            flags += [flag, str(value)]
    return flags


def interrupt(*_):
    raise KeyboardInterrupt


class LocalCluster:
    """Up from `with` to its end, even when that is an error, Ctrl-C or SIGTERM. Options are those of scripts/cluster up."""

    def __init__(self, **options):
        self.options = options
        self.address = None
        self._folder = None

    def __enter__(self):
        if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:  # it would skip __exit__
            signal.signal(signal.SIGTERM, interrupt)
        self._folder = tempfile.TemporaryDirectory(prefix="winnow-cluster-")
        atexit.register(self.__exit__)  # unittest leaves its contexts open when it is interrupted
        try:
            self.address = self._run("up", *flags_of(self.options)).strip().splitlines()[-1]
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        atexit.unregister(self.__exit__)
        try:
            self._run("down")
        finally:
            self._folder.cleanup()

    def _run(self, command, *arguments):
        # In a session of its own: Ctrl-C reaches us, and we let it clean up.
        child = subprocess.Popen([ROOT / "scripts/cluster", command, "--dir", self._folder.name, *arguments],
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
        try:
            output, errors = child.communicate()
        except BaseException:
            child.terminate()
            child.communicate()
            raise
        if child.returncode != 0:
            raise ClusterError(errors.strip())
        return output

    def processes(self):
        """Of the cluster's state: {name: {pid, address, log, …}}"""
        state = json.loads(pathlib.Path(self._folder.name, "state.json").read_text(encoding="utf-8"))
        return {process["name"]: process for process in state["processes"]}

    def kill(self, name, signal_number=signal.SIGKILL):
        os.kill(self.processes()[name]["pid"], signal_number)

    def is_running(self, name):
        """False once it has ended, a zombie of scripts/cluster's too."""
        try:
            stat = pathlib.Path("/proc", str(self.processes()[name]["pid"]), "stat").read_text(encoding="utf-8")
        except OSError:
            return False
        return stat[stat.rindex(")") + 2] not in "ZX"

    def wait_dead(self, name, timeout_s=30):
        deadline = time.monotonic() + timeout_s
        while self.is_running(name):
            if time.monotonic() > deadline:
                raise ClusterError(f"{name} still runs after {timeout_s} s")
            time.sleep(0.02)

    def metrics_page(self, name):
        """A process's /metrics page as it is."""
        url = f"http://{self.processes()[name]['http']}/metrics"
        with urllib.request.urlopen(url, timeout=10) as page:
            return page.read().decode()

    def metrics(self, name):
        """What a process's /metrics page says: {'series{labels}': value}, without the label `component`."""
        lines = self.metrics_page(name).splitlines()
        samples = (line.rpartition(" ") for line in lines if line and not line.startswith("#"))
        return {COMPONENT.sub("", series).replace("{}", ""): float(value) for series, _, value in samples}

    def restart(self, name, **options):
        """Options are those of scripts/cluster restart."""
        self._run("restart", name, *flags_of(options))

    def log(self, name):
        return pathlib.Path(self.processes()[name]["log"]).read_text(encoding="utf-8", errors="replace")

    def generate(self, **options):
        return generate(self.address, **options)


def generate_command(address, **options):
    return [str(BIN / "winnow"), "generate", "--address", address, "--json", *flags_of(options)]


def parse_answer(child_stdout, child_stderr, exit_status):
    """The JSON object that `winnow generate --json` printed; RequestError when it failed."""
    if exit_status != 0:
        raise RequestError(child_stderr.strip() or child_stdout.strip(), exit_status)
    lines = child_stdout.strip().splitlines()
    if len(lines) != 1:
        raise RequestError(f"expected one line of JSON, got {child_stdout!r}", exit_status)
    return json.loads(lines[0])


def generate(address, prompt=None, timeout_s=300, **options):
    """Runs `winnow generate` with flags like policy="claa", keep_ratio=0.1; returns its JSON object.

    `prompt` is text or bytes and travels in a file, so that its length has no limit.
    """
    with tempfile.NamedTemporaryFile(prefix="winnow-prompt-") as file:
        if prompt is not None:
            file.write(prompt if isinstance(prompt, bytes) else prompt.encode())
            file.flush()
            options["prompt_file"] = file.name
        child = subprocess.run(generate_command(address, **options), stdin=subprocess.DEVNULL,
                               capture_output=True, text=True, timeout=timeout_s, check=False)
    return parse_answer(child.stdout, child.stderr, child.returncode)
