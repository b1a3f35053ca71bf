#!/usr/bin/env python3
"""The stages that make the image `cpu` do their work: their COPY and RUN lines, taken from deploy/Dockerfile, are carried
out in a clean folder that stands for the container's root.

    image_build_test.py IMAGE_ROOT

What the last RUN leaves is moved to IMAGE_ROOT, for image_run_test.py. With ccache, compiling is quick where the same
sources were compiled before.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

from dockerfile import (ROOT, chain, command_of_run, context_files, is_ignored, read_ignore_patterns, read_stages)

PROGRAMS = ["winnow", "winnow-decode-worker", "winnow-prefill-worker", "winnow-router"]
MAX_MEGABYTES = 150
STAGES = read_stages((ROOT / "deploy/Dockerfile").read_text(encoding="utf-8"))
image_root = pathlib.Path(sys.argv.pop()) if len(sys.argv) > 1 else None


class Builder:
    """Carries out COPY and RUN with `root` for "/": absolute paths of the container get it as a prefix."""

    FOLDERS = ("/src", "/image")

    def __init__(self, root):
        self.root = root
        self.workdir = None

    def path(self, name):
        return self.root / name.lstrip("/") if name.startswith("/") else self.workdir / name

    def workdir_line(self, rest):
        self.workdir = self.path(rest)
        self.workdir.mkdir(parents=True)

    def copy_line(self, rest):
        source, target = rest.split()
        for file in context_files():
            if source == "." or file.is_relative_to(source):
                to = self.path(target) / file.relative_to(source)
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / file, to)

    def run_line(self, rest):
        command = re.sub(rf"(?<![\w.])({'|'.join(self.FOLDERS)})\b", lambda found: str(self.root) + found[0],
                         command_of_run(rest))
        print("RUN", command, flush=True)
        subprocess.run(["/bin/sh", "-c", command], cwd=self.workdir, check=True, stdin=subprocess.DEVNULL)

    def carry_out(self, instructions):
        lines = {"WORKDIR": self.workdir_line, "COPY": self.copy_line, "RUN": self.run_line}
        for word, rest in instructions:
            lines[word](rest)


class ImageBuildTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory(prefix="winnow-image-")))
        base, instructions = chain(STAGES, "build-cpu")
        assert base.startswith("debian:"), base
        Builder(cls.folder).carry_out(instructions)
        cls.image = cls.folder / "image"
        if image_root:
            shutil.rmtree(image_root, ignore_errors=True)
            image_root.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(cls.image, image_root)
            cls.image = image_root

    def test_the_image_is_the_programs_and_what_they_load(self):
        home = self.image / "opt/winnow"
        self.assertEqual(sorted(os.listdir(home / "bin")), PROGRAMS)
        self.assertEqual(sorted(os.listdir(self.image)), ["etc", "opt", "tmp"])
        self.assertIn("ld-linux-x86-64.so.2", os.listdir(home / "lib"))
        self.assertIn("winnow", os.listdir(home / "licenses"))
        self.assertGreater(len(os.listdir(home / "licenses")), 10)

    def test_the_image_is_small(self):
        files = [file for file in self.image.rglob("*") if file.is_file()]
        megabytes = sum(file.stat().st_size for file in files) / 1e6
        print(f"image: {len(files)} files, {megabytes:.1f} MB", flush=True)
        self.assertLess(megabytes, MAX_MEGABYTES)

    def test_programs_load_nothing_from_outside_the_image(self):
        for program in PROGRAMS:
            header = subprocess.run(["readelf", "-ld", self.image / "opt/winnow/bin" / program], check=True,
                                    capture_output=True, text=True).stdout
            self.assertIn("/opt/winnow/lib/ld-linux-x86-64.so.2", header)
            self.assertRegex(header, r"\(RPATH\).*\[\$ORIGIN/\.\./lib\]")
            for library in re.findall(r"\(NEEDED\).*\[(\S+)\]", header):
                self.assertTrue((self.image / "opt/winnow/lib" / library).is_file(), f"{program}: {library}")

    def test_nothing_in_the_image_may_be_written_by_its_user(self):
        for file in self.image.rglob("*"):
            if file.name != "tmp" and not file.is_symlink():
                self.assertEqual(file.stat().st_mode & 0o6022, 0, file)


class DockerfileTest(unittest.TestCase):
    def test_every_image_runs_as_a_user_by_number(self):
        for target in ("cpu", "cuda", "demo"):
            users = [rest for word, rest in chain(STAGES, target)[1] if word == "USER"]
            self.assertEqual(users, ["65532:65532"], target)

    def test_both_backends_are_built_and_collected_alike(self):
        def runs(stage):
            return [rest.replace("image-cuda", "image") for word, rest in STAGES[stage].instructions if word == "RUN"]
        self.assertEqual(runs("build-cpu"), runs("build-cuda"))

    def test_every_base_image_has_a_version(self):
        for stage in STAGES.values():
            if stage.base not in STAGES and stage.base != "scratch":
                self.assertRegex(stage.base, r"^[\w/.-]+:[\w.-]*\d[\w.-]*$")

    def test_the_context_holds_the_sources_and_no_more(self):
        files = {str(file) for file in context_files()}
        tops = {file.split("/")[0] for file in files}
        self.assertLessEqual({"CMakeLists.txt", "CMakePresets.json", "router", "scripts", "LICENSE", "models"}, tops)
        self.assertFalse(tops & {".git", "build", "docs", "tests", "bench"}, tops)
        self.assertIn("deploy/image/collect", files)
        self.assertNotIn("deploy/Dockerfile", files)

    def test_the_last_pattern_that_matches_decides(self):
        patterns = read_ignore_patterns("# no\n.*\ndeploy\n!deploy/image\n**/*.pyc\n")
        for path, ignored in {".git": True, "a/.git": False, "deploy/x": True, "deploy/image/x": False,
                              "deploy/image/x.pyc": True, "plan/x.cc": False}.items():
            self.assertEqual(is_ignored(pathlib.PurePath(path), patterns), ignored, path)


if __name__ == "__main__":
    unittest.main()
