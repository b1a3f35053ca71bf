"""Reads deploy/Dockerfile and .dockerignore, as far as this project uses them."""

import fnmatch
import json
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Stage:
    """FROM … AS name, and the instructions up to the next one: [(word, rest of the line)]."""

    def __init__(self, base, name):
        self.base = base
        self.name = name
        self.instructions = []


def read_stages(text):
    """{name: Stage} in the order of the file. Refuses what the tests would not carry out."""
    stages = {}
    stage = None
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        word, rest = line.split(maxsplit=1)
        if word == "FROM":
            base, name = re.fullmatch(r"(\S+) AS (\S+)", rest).groups()
            stage = stages[name] = Stage(base, name)
        elif word in ("WORKDIR", "COPY", "RUN", "ENV", "USER", "CMD"):
            stage.instructions.append((word, rest.strip()))
        else:
            raise ValueError(f"{word} is not known here")
    return stages


def chain(stages, name):
    """The instructions of a stage after those of the stages it stands on, and the image at the bottom."""
    stage = stages[name]
    if stage.base not in stages:
        return stage.base, list(stage.instructions)
    base, before = chain(stages, stage.base)
    return base, before + stage.instructions


def command_of_run(rest):
    """RUN's command without its mounts, which only say what is kept between builds."""
    return re.sub(r"^(--mount=\S+\s+)+", "", rest)


class RunConfig:
    """What a container starts with: environment, user, folder and command of a stage."""

    def __init__(self, stages, name):
        self.base, instructions = chain(stages, name)
        self.environment, self.user, self.workdir, self.command = {}, None, "/", []
        for word, rest in instructions:
            if word == "ENV":
                self.environment.update(pair.split("=", 1) for pair in rest.split())
            elif word == "USER":
                self.user = tuple(int(part) for part in rest.split(":"))
            elif word == "WORKDIR":
                self.workdir = rest
            elif word == "CMD":
                self.command = json.loads(rest)


def is_ignored(path, patterns):
    """Whether .dockerignore leaves out a path relative to the root: the last pattern that matches decides."""
    ignored = False
    for pattern in patterns:
        wanted = pattern.lstrip("!")
        parts = wanted.split("/")
        if parts[0] == "**":
            hit = any(fnmatch.fnmatchcase(part, parts[1]) for part in path.parts)
        else:
            # A pattern that names a folder means all that is in it.
            hit = len(path.parts) >= len(parts) and all(map(fnmatch.fnmatchcase, path.parts, parts))
        if hit:
            ignored = not pattern.startswith("!")
    return ignored


def read_ignore_patterns(text):
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def context_files(root=ROOT):
    """The files that `docker build` would see, relative to the root."""
    patterns = read_ignore_patterns((root / ".dockerignore").read_text(encoding="utf-8"))
    keeps = [pathlib.PurePath(pattern[1:]) for pattern in patterns if pattern.startswith("!")]

    def walk(folder):
        for entry in sorted(folder.iterdir()):
            path = entry.relative_to(root)
            if entry.is_dir() and not entry.is_symlink():
                # Into an ignored folder only where something in it is taken back.
                if not is_ignored(path, patterns) or any(path in kept.parents for kept in keeps):
                    yield from walk(entry)
            elif not is_ignored(path, patterns):
                yield path

    return list(walk(root))
