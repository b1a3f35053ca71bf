#!/usr/bin/env python3
"""The services of deploy/compose.yaml run from the image as they would in containers, and answer the demo's question.

    image_run_test.py IMAGE_ROOT

IMAGE_ROOT is what image_build_test.py made; environment, user and folder come from the Dockerfile, commands from the
compose file. Environment: WINNOW_BIN_DIR.
"""

import errno
import json
import pathlib
import re
import sys
import tempfile
import unittest

import system_python  # noqa: F401, I001  (before yaml)
import yaml
from containers import Container, http_page, http_status, wait_until
from dockerfile import ROOT
from namespaces import isolate_network, may_be_any_user
from program_flags import flags_of

sys.path.insert(0, str(ROOT / "tools"))
from document import make_document  # noqa: E402

SERVICES = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text(encoding="utf-8"))["services"]
OURS = [name for name, service in SERVICES.items() if service["image"].startswith("winnow:")]
HTTP = {name: int(flags_of(SERVICES[name]["command"])["http-listen"].rpartition(":")[2]) for name in OURS}
image_root = pathlib.Path(sys.argv.pop()).resolve()


class ClusterTest(unittest.TestCase):
    """The compose file's services of ours, in one network."""

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory(prefix="winnow-run-")))
        cls.containers = {}
        for name in OURS:
            cls.containers[name] = cls.container(name, SERVICES[name]["command"])
            cls.addClassCleanup(cls.containers[name].kill)
        wait_until(lambda: http_status(HTTP["router"], "/readyz") == 200, cls.containers, "the cluster is not ready")

    @classmethod
    def container(cls, name, command, target="demo"):
        folder = pathlib.Path(tempfile.mkdtemp(prefix=name, dir=cls.folder))
        return Container(image_root, folder, command, hosts=OURS, target=target)


class RunningTest(ClusterTest):
    def run_program(self, *command):
        container = self.container("program", list(command))
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
                self.assertEqual(http_status(HTTP[name], page), 200, f"{name}{page}")

    def test_the_canary_finds_the_answers_right(self):
        right = re.compile(r"^winnow_canary_right\{.*\} 1$", re.MULTILINE)
        wait_until(lambda: right.search(http_page(HTTP["canary"], "/metrics")), self.containers, "the canary is not right")

    def test_the_image_without_a_command_tells_what_it_is(self):
        container = self.container("bare", None, target="cpu")
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
