#!/usr/bin/env python3
"""Fails when the documentation names a file, function or test that is not in the tree.

In the tables of docs/claa.md and docs/reliability.md, names in backticks must occur in the files that the same clause names
(`Function`, `Other` in `path`; …). In all pages, paths in backticks and relative links must exist.
"""

import pathlib
import re
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
FAULT_ROW = re.compile(r"^\| `((?:router|prefill|decode)\.[a-z.]+)` \|", re.MULTILINE)
FAULT_CALL = re.compile(r"\bFa(?:ult|il)At\(\"([a-z.]+)\"")
PATH = re.compile(r"[\w.\-]+(?:/[\w.\-]+)*/?")


def pages(root):
    return [root / "README.md", *(root / "docs").rglob("*.md"), *(root / "models").rglob("*.md")]


def is_path(text, root):
    """Whether a name in backticks means a path of this repository."""
    top = text.split("/")[0]
    return PATH.fullmatch(text) and "/" in text and top != "build" and (root / top).is_dir()


def missing_paths(page, root):
    text = page.read_text(encoding="utf-8")
    for name in CODE.findall(text):
        # "plan/kv_plan" stands for the header and the source.
        if is_path(name, root) and not (root / name).exists() and not list(root.glob(name + ".*")):
            yield f"{page.relative_to(root)}: `{name}` does not exist"
    for link in LINK.findall(text):
        if "://" not in link and not (page.parent / link).exists():
            yield f"{page.relative_to(root)}: link to {link} leads nowhere"


def clauses(text):
    """Parts of table cells that name at least one path with its folder: (paths, names)."""
    for line in text.splitlines():
        if not line.startswith("|"):
            continue
        for cell in re.split(r"(?<!\\)\|", line):
            for clause in cell.split(";"):
                names = CODE.findall(clause)
                paths = [name for name in names if "/" in name]
                if paths:
                    yield paths, [name for name in names if "/" not in name]


def missing_names(page, root):
    for paths, names in clauses(page.read_text(encoding="utf-8")):
        source = "".join((root / path).read_text(encoding="utf-8") for path in paths if (root / path).exists())
        for name in names:
            # A test method of Python's unittest is named without its prefix.
            if not re.search(rf"(?:\b|\btest_){re.escape(name)}\b", source):
                yield f"{page.name}: {name} is not in {', '.join(paths)}"


class DocumentationTest(unittest.TestCase):
    def test_every_path_and_link_exists(self):
        for page in pages(ROOT):
            with self.subTest(page=page.name):
                self.assertEqual(list(missing_paths(page, ROOT)), [])

    def test_tables_name_what_is_in_the_code(self):
        for name in ("claa.md", "reliability.md"):
            with self.subTest(page=name):
                page = ROOT / "docs" / name
                self.assertGreaterEqual(sum(len(names) for _, names in clauses(page.read_text(encoding="utf-8"))), 30)
                self.assertEqual(list(missing_names(page, ROOT)), [])

    def test_the_fault_points_listed_are_those_in_the_code(self):
        listed = set(FAULT_ROW.findall((ROOT / "docs/reliability.md").read_text(encoding="utf-8")))
        sources = [file for folder in ("engine", "router", "prefill_worker", "decode_worker")
                   for file in (ROOT / folder).rglob("*.cc")]
        called = {point for file in sources for point in FAULT_CALL.findall(file.read_text(encoding="utf-8"))}
        self.assertEqual(listed, called)


class CheckerTest(unittest.TestCase):
    """The checker itself, on a tree made by hand."""

    def setUp(self):
        self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        (self.root / "plan").mkdir()
        (self.root / "plan/a.cc").write_text("int Known();\n")
        self.page = self.root / "page.md"

    def test_finds_missing_paths_and_links(self):
        self.page.write_text("`plan/a.cc` `plan/b.cc` `x/y` [a](plan/a.cc) [b](b.md) [c](https://c.org/d)\n")
        self.assertEqual(len(list(missing_paths(self.page, self.root))), 2)

    def test_finds_names_that_are_not_in_their_file(self):
        self.page.write_text("| `Known` in `plan/a.cc` | `Unknown` in `plan/a.cc`; `Elsewhere` |\n")
        self.assertEqual(list(missing_names(self.page, self.root)), ["page.md: Unknown is not in plan/a.cc"])


if __name__ == "__main__":
    unittest.main()
