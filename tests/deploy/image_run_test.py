#!/usr/bin/env python3
"""The services of deploy/compose.yaml run from the image as they would in containers, and answer the demo's question.

    image_run_test.py IMAGE_ROOT

IMAGE_ROOT is what image_build_test.py made; environment, user and folder come from the Dockerfile, commands from the
compose file. No container engine is needed: run_container.py makes the same surroundings with namespaces.
"""

import errno
import json
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.request

import system_python  # noqa: F401, I001  (before yaml)
import yaml
from dockerfile import ROOT, RunConfig, chain, read_stages
from namespaces import isolate_network, may_be_any_user

sys.path.insert(0, str(ROOT / "tools"))
from document import make_document  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
STAGES = read_stages((ROOT / "deploy/Dockerfile").read_text(encoding="utf-8"))
SERVICES = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text(encoding="utf-8"))["services"]
OURS = [name for name, service in SERVICES.items() if service["image"].startswith("winnow:")]
START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 90
image_root = pathlib.Path(sys.argv.pop()).resolve()


def copied_folders(target):
    """{path in the image: folder of this repository} of a stage's COPY lines that take from the context."""
    pairs = [rest.split() for word, rest in chain(STAGES, target)[1] if word == "COPY" and "--from" not in rest]
    return {to.rstrip("/"): str(ROOT / source) for source, to in pairs}


class Container:
    """A program in surroundings of its own, from its start to its end."""

    def __init__(self, folder, name, command, target="demo"):
        config = RunConfig(STAGES, target)
        spec = {"image": str(image_root), "environment": config.environment, "user": config.user,
                "workdir": config.workdir, "command": command or config.command,
                "hosts": dict.fromkeys(OURS, "127.0.0.1"), "volumes": copied_folders(target)}
        file = folder / f"{name}.json"
        file.write_text(json.dumps(spec), encoding="utf-8")
        self.log_file = folder / f"{name}.log"
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

    def output(self):
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
        if self.engine.poll() is None:
            self.engine.kill()  # the program ends with it
        self.engine.communicate()


def http_port(service):
    flag, = [flag for flag in service["command"] if flag.startswith("--http-listen=")]
    return int(flag.rpartition(":")[2])


def page_of(service, page):
    with urllib.request.urlopen(f"http://127.0.0.1:{http_port(service)}{page}", timeout=5) as answer:
        return answer.read().decode()


def status_of(service, page):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{http_port(service)}{page}", timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


class ClusterTest(unittest.TestCase):
    """The compose file's services of ours, in one network."""

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory(prefix="winnow-run-")))
        cls.containers = {}
        for name in OURS:
            cls.containers[name] = Container(cls.folder, name, SERVICES[name]["command"])
            cls.addClassCleanup(cls.containers[name].kill)
        deadline = time.monotonic() + START_TIMEOUT_S
        while status_of(SERVICES["router"], "/readyz") != 200:
            ended = [name for name, container in cls.containers.items() if container.engine.poll() is not None]
            if ended or time.monotonic() > deadline:
                logs = "\n".join(f"{name}:\n{container.log()}" for name, container in cls.containers.items())
                raise AssertionError(f"the cluster is not ready; ended: {ended}\n{logs}")
            time.sleep(0.1)


class RunningTest(ClusterTest):
    def run_program(self, *command):
        container = Container(pathlib.Path(tempfile.mkdtemp(dir=self.folder)), "program", list(command))
        self.addCleanup(container.kill)
        return container.output()

    def test_the_cluster_answers_the_demo_question(self):
        document = make_document(tokens=4000, facts=8, seed=4)
        for policy in ("full", "claa"):
            answer = json.loads(self.run_program(
                "winnow", "generate", "--address", "router:50050", "--policy", policy, "--max-tokens", "16",
                "--json", "--prompt", document.prompt))
            self.assertEqual(answer["text"].strip(), document.answer, policy)
            self.assertEqual(answer["kept_tokens"] < answer["prompt_tokens"], policy == "claa", answer)

    def test_processes_have_no_rights(self):
        for name, container in self.containers.items():
            lines = pathlib.Path(f"/proc/{container.pid()}/status").read_text(encoding="ascii").splitlines()
            status = {key: value.split() for key, _, value in (line.partition(":") for line in lines)}
            self.assertEqual(status["NSpid"][-1], "1", name)
            self.assertEqual(status["NoNewPrivs"], ["1"], name)
            for capabilities in ("CapPrm", "CapEff", "CapBnd"):
                self.assertEqual(int(status[capabilities][0], 16), 0, f"{name} {capabilities}")
            if may_be_any_user():
                self.assertEqual(status["Uid"] + status["Gid"], ["65532"] * 8, name)
            else:  # the number that it has inside comes first
                ids = pathlib.Path(f"/proc/{container.pid()}/uid_map").read_text(encoding="ascii").split()
                self.assertEqual(ids, ["65532", "0", "1"], name)

    def test_only_tmp_can_be_written(self):
        for name, container in self.containers.items():
            root = pathlib.Path(f"/proc/{container.pid()}/root")
            mounts = [line.split() for line in (root.parent / "mountinfo").read_text(encoding="ascii").splitlines()]
            options = {fields[4]: fields[5].split(",") for fields in mounts}
            self.assertLessEqual({"/", "/opt", "/tmp", "/models/demo"}, set(options), name)
            writable = {place for place, words in options.items() if "rw" in words}
            self.assertLessEqual(writable - {"/proc"}, {"/tmp"} | {f"/dev/{device}" for device in
                                                                  ("null", "zero", "random", "urandom")}, name)
            for place in ("x", "opt/winnow/x", "models/demo/x", "etc/x"):
                with self.assertRaises(OSError) as caught:
                    (root / place).touch()
                self.assertEqual(caught.exception.errno, errno.EROFS, place)

    def test_every_part_serves_its_pages(self):
        for name in OURS:
            for page in ("/healthz", "/readyz", "/metrics"):
                self.assertEqual(status_of(SERVICES[name], page), 200, f"{name}{page}")

    def test_the_canary_finds_the_answers_right(self):
        deadline = time.monotonic() + START_TIMEOUT_S
        while not re.search(r"^winnow_canary_right\{.*\} 1$", page := page_of(SERVICES["canary"], "/metrics"), re.MULTILINE):
            self.assertLess(time.monotonic(), deadline, page)
            time.sleep(0.2)

    def test_the_chart_s_canary_for_the_demo_model_would_be_right(self):
        canary = yaml.safe_load((ROOT / "deploy/helm/winnow/values/cpu-demo.yaml").read_text(encoding="utf-8"))["canary"]
        said = self.run_program("winnow", "canary", "--address=router:50050", f"--prompt={canary['question']}",
                                f"--expect={canary['expect']}", *canary["extraArgs"])
        self.assertTrue(said.startswith("right"), said)

    def test_the_image_without_a_command_tells_what_it_is(self):
        container = Container(self.folder, "bare", None, target="cpu")
        self.addCleanup(container.kill)
        self.assertIn("the client of Winnow", container.output())


class StoppingTest(ClusterTest):
    def test_sigterm_ends_each_as_process_1_and_well(self):
        for name in reversed(OURS):
            self.assertEqual(self.containers[name].stop(), 0, self.containers[name].log())
            if name != "canary":
                self.assertIn("stopping", self.containers[name].log())


if __name__ == "__main__":
    isolate_network()
    unittest.main()
