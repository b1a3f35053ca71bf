#!/usr/bin/env python3
"""Fails when an #include of ours breaks the folder table of docs/design.md §2, or makes a ring of folders, of the
rooms (subfolders) of one folder, or of files.

The table's third column names the folders that a folder may include besides itself: "–" none,
"all" every one; "checkpoint (CLI)" allows it in the subfolder cli/ only. Generated code
("winnow/v1/…pb.h") counts as folder proto.
"""

import pathlib
import re
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCES = {".h", ".cc", ".cu", ".cuh"}
INCLUDE = re.compile(r'^\s*#\s*include\s*["<]([^">]+)[">]', re.MULTILINE)
ALL = "all"
OUTPUTS = {"build", "out", "node_modules"}


def read_table(design):
    """{folder: ALL or {allowed folder: subfolder it is limited to, or None}}"""
    table = {}
    for line in design.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) != 4 or not cells[0].startswith("`"):
            continue
        if cells[2] == ALL:
            allowed = ALL
        elif cells[2] == "–":
            allowed = {}
        else:
            names = (name.strip() for name in cells[2].split(","))
            parts = [re.fullmatch(r"(\w+)(?: \((\w+)\))?", name) for name in names]
            allowed = {part[1]: part[2].lower() if part[2] else None for part in parts}
        for name in re.findall(r"([\w/]+)/(?=[\s`])", cells[0]):
            table[name.split("/")[0]] = allowed
    return table


def folder_of(include, root, table):
    """Folder of ours that an include names, or None for a library's header."""
    first = include.split("/")[0]
    if include.startswith("winnow/v1/"):
        return "proto"
    return first if "/" in include and first in table and (root / first).is_dir() else None


def includes_of(root, table):
    """Yields (file, include, folder) for every include of ours."""
    for folder in table:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in SOURCES and path.is_file():
                for include in INCLUDE.findall(path.read_text(encoding="utf-8")):
                    yield path.relative_to(root), include, folder_of(include, root, table)


def find_violations(root, table):
    found = []
    for path in sorted(root.iterdir()):
        known = path.name in table or path.name in OUTPUTS or path.name.startswith(".")
        if path.is_dir() and not known:
            if any(file.suffix in SOURCES for file in path.rglob("*")):
                found.append(f"{path.name}/ holds sources but is not in the table")
    for path, include, target in includes_of(root, table):
        folder = path.parts[0]
        allowed = table[folder]
        if target is None:
            if (root / path.parent / include).exists():
                found.append(f'{path}: "{include}" must be included from the repository root')
        elif target != folder and allowed != ALL:
            if target not in allowed:
                listed = ", ".join(allowed) or "nothing"
                found.append(f'{path}: {folder}/ may not include "{include}"; allowed: {listed}')
            elif allowed[target] and path.parts[1] != allowed[target]:
                found.append(f'{path}: only {folder}/{allowed[target]}/ may include "{include}"')
    return found


def find_ring(edges):
    """A list of nodes that lead to each other in a ring, or None; edges: {node: {next node}}."""
    done = set()

    def walk(node, way):
        if node in way:
            return way[way.index(node):] + [node]
        if node in done:
            return None
        for target in sorted(edges.get(node, ())):
            ring = walk(target, way + [node])
            if ring:
                return ring
        done.add(node)
        return None

    return next((ring for node in sorted(edges) if (ring := walk(node, []))), None)


def find_folder_ring(root, table):
    edges = {}
    for path, _, target in includes_of(root, table):
        if target and target != path.parts[0]:
            edges.setdefault(path.parts[0], set()).add(target)
    return find_ring(edges)


def find_room_ring(root, table):
    """Of the rooms of one folder: its subfolders, and the files directly in it."""
    edges = {}
    for path, include, target in includes_of(root, table):
        rooms = str(path.parent), str(pathlib.Path(include).parent)
        if target == path.parts[0] and rooms[0] != rooms[1]:
            edges.setdefault(rooms[0], set()).add(rooms[1])
    return find_ring(edges)


def find_file_ring(root, table):
    edges = {}
    for path, include, target in includes_of(root, table):
        if target == path.parts[0]:
            edges.setdefault(str(path), set()).add(include)
    return find_ring(edges)


class RepositoryTest(unittest.TestCase):
    def setUp(self):
        self.table = read_table((ROOT / "docs/design.md").read_text(encoding="utf-8"))

    def test_table_is_read_whole(self):
        self.assertGreaterEqual(len(self.table), 15)
        self.assertEqual(self.table["plan"], {"common": None})
        self.assertEqual(self.table["client"]["checkpoint"], "cli")
        self.assertIs(self.table["tests"], ALL)
        self.assertEqual(self.table["prefill_worker"], self.table["decode_worker"])

    def test_every_include_follows_the_table(self):
        self.assertEqual(find_violations(ROOT, self.table), [])

    def test_folders_include_each_other_in_no_ring(self):
        self.assertIsNone(find_folder_ring(ROOT, self.table))

    def test_the_rooms_of_a_folder_include_each_other_in_no_ring(self):
        self.assertIsNone(find_room_ring(ROOT, self.table))

    def test_files_include_each_other_in_no_ring(self):
        self.assertIsNone(find_file_ring(ROOT, self.table))


class CheckerTest(unittest.TestCase):
    """The checker itself, on trees made by hand."""

    TABLE = """
| `a/` | x | – | - |
| `b/`, `c/x/` | x | a, d (CLI) | - |
| `d/` | x | – | - |
| `t/ u/` | x | all | - |
"""

    def check(self, files, find=find_folder_ring):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for name in "abcdtu":
                (root / name).mkdir()
            for name, text in files.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(text, encoding="utf-8")
            table = read_table(self.TABLE)
            return find_violations(root, table), find(root, table)

    def test_reads_rows_of_several_folders(self):
        self.assertEqual(set(read_table(self.TABLE)), set("abcdtu"))

    def test_accepts_what_is_listed(self):
        files = {"a/x.h": '#include "a/y.h"\n#include "absl/a.h"\n', "b/x.h": '#include "a/x.h"\n',
                 "c/cli/x.cc": '#include "d/x.h"\n', "t/x.cc": '#include "b/x.h"\n'}
        self.assertEqual(self.check(files), ([], None))

    def test_refuses_what_is_not_listed(self):
        self.assertIn("a/ may not include", self.check({"a/x.h": '  # include  "d/x.h"\n'})[0][0])
        self.assertIn("a/ may not include", self.check({"a/x.h": "#include <d/x.h>\n"})[0][0])
        generated = {"a/x.cu": '#include "winnow/v1/x.pb.h"\n'}
        self.assertIn("a/ may not include", self.check(generated)[0][0])

    def test_refuses_an_include_outside_its_subfolder(self):
        self.assertIn("only b/cli/ may include", self.check({"b/x.h": '#include "d/x.h"\n'})[0][0])

    def test_refuses_relative_includes(self):
        relative = {"a/x.h": "", "a/y.cc": '#include "x.h"\n'}
        self.assertIn("from the repository root", self.check(relative)[0][0])

    def test_refuses_folders_outside_the_table(self):
        self.assertIn("new/ holds sources", self.check({"new/x.h": ""})[0][0])

    def test_finds_rings(self):
        ring = {"t": "b", "b": "a", "a": "t"}
        files = {f"{one}/x.h": f'#include "{other}/x.h"\n' for one, other in ring.items()}
        self.assertEqual(self.check(files)[1], ["a", "t", "b", "a"])

    def test_finds_rings_of_rooms_whose_files_make_none(self):
        files = {"a/one/x.h": '#include "a/two/x.h"\n', "a/two/y.cc": '#include "a/one/x.h"\n'}
        self.assertEqual(self.check(files, find_room_ring), ([], ["a/one", "a/two", "a/one"]))
        self.assertEqual(self.check(files, find_file_ring), ([], None))

    def test_the_files_directly_in_a_folder_are_a_room(self):
        files = {"a/x.h": '#include "a/one/x.h"\n', "a/one/x.cc": '#include "a/x.h"\n'}
        self.assertEqual(self.check(files, find_room_ring)[1], ["a", "a/one", "a"])
        self.assertIsNone(self.check({"a/x.h": files["a/x.h"], "a/one/y.h": '#include "a/two/x.h"\n'}, find_room_ring)[1])

    def test_finds_rings_of_headers(self):
        ring = {"a/x.h": '#include "a/y.h"\n', "a/y.h": '#include "a/x.h"\n'}
        self.assertEqual(self.check(ring, find_file_ring)[1], ["a/x.h", "a/y.h", "a/x.h"])
        self.assertIsNone(self.check({"a/x.cc": ring["a/x.h"], "a/y.h": ""}, find_file_ring)[1])


if __name__ == "__main__":
    sys.exit(unittest.main())
