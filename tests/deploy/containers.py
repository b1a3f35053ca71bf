"""Programs of the image in containers of our own, all in one network: what image_run_test.py and chart_run_test.py start.

No container engine is needed: run_container.py makes the same surroundings with namespaces.
"""

import json
import pathlib
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

from dockerfile import ROOT, RunConfig, chain, read_stages

HERE = pathlib.Path(__file__).resolve().parent
STAGES = read_stages((ROOT / "deploy/Dockerfile").read_text(encoding="utf-8"))
START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 90


def copied_folders(target):
    """{path in the image: folder of this repository} of a stage's COPY lines that take from the context."""
    pairs = [rest.split() for word, rest in chain(STAGES, target)[1] if word == "COPY" and "--from" not in rest]
    return {to.rstrip("/"): str(ROOT / source) for source, to in pairs}


class Container:
    """A program in surroundings of its own, from its start to its end. `folder` is where its files lie outside."""

    def __init__(self, image, folder, command, hosts=(), volumes=None, target="demo"):
        config = RunConfig(STAGES, target)
        spec = {"image": str(image), "environment": config.environment, "user": config.user, "workdir": config.workdir,
                "command": command or config.command, "hosts": dict.fromkeys(hosts, "127.0.0.1"),
                "volumes": copied_folders(target) | (volumes or {})}
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "container.json"
        file.write_text(json.dumps(spec), encoding="utf-8")
        self.log_file = folder / "log"
        with self.log_file.open("w", encoding="utf-8") as log:
            self.engine = subprocess.Popen([sys.executable, HERE / "run_container.py", file], stdin=subprocess.DEVNULL,
                                           stdout=subprocess.PIPE, stderr=log, text=True)

    def log(self):
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def pid(self):
        """Of the program, as this test sees it."""
        engine = self.engine.pid
        children = pathlib.Path(f"/proc/{engine}/task/{engine}/children").read_text(encoding="ascii").split()
        return int(children[0])

    def is_running(self):
        return self.engine.poll() is None

    def output(self):
        """What it printed, once it has ended well."""
        text, _ = self.engine.communicate(timeout=START_TIMEOUT_S)
        if self.engine.returncode != 0:
            raise AssertionError(f"exit status {self.engine.returncode}\n{self.log()}")
        return text

    def stop(self):
        """SIGTERM; the exit status."""
        self.engine.send_signal(signal.SIGTERM)
        self.engine.communicate(timeout=STOP_TIMEOUT_S)
        return self.engine.returncode

    def kill(self):
        if self.is_running():
            self.engine.kill()  # the program ends with it
        self.engine.communicate()


def wait_until(holds, containers, what):
    """AssertionError, with all logs, when it does not within a while, or one of the containers ended."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while not holds():
        ended = [name for name, container in containers.items() if not container.is_running()]
        if ended or time.monotonic() > deadline:
            logs = "\n".join(f"{name}:\n{container.log()}" for name, container in containers.items())
            raise AssertionError(f"{what}; ended: {ended}\n{logs}")
        time.sleep(0.1)


def http_page(port, page):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{page}", timeout=5) as answer:
        return answer.read().decode()


def http_status(port, page):
    """None while nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{page}", timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None
