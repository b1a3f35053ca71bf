#!/usr/bin/env python3
"""Fails when a source file or a function of ours grows too long to be read at once.

Functions of C++ are found by their braces: comments, strings and template arguments blanked out, a brace at namespace
or class scope behind a parameter list opens one. A lambda counts as part of its function.
"""

import ast
import pathlib
import re
import subprocess
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
CPP = {".h", ".cc", ".cu", ".cuh"}
MAX_FILE_LINES = 450
MAX_TEST_FILE_LINES = 600  # of tests/, whose files are lists of cases
MAX_FUNCTION_LINES = 80
BLANKED = re.compile(
    r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:[^"\\\n]|\\.)*"|(?<!\w)\'(?:[^\'\\\n]|\\.)+\'|^[ \t]*#(?:[^\n]*\\\n)*[^\n]*',
    re.DOTALL | re.MULTILINE)


def own_sources(root):
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=root, capture_output=True, text=True,
                            check=True).stdout.split("\n")
    return [pathlib.Path(name) for name in listed if pathlib.Path(name).suffix in CPP | {".py", ".proto"}]


def blank(text):
    return BLANKED.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)


def scope_of(head, outer):
    """What a brace behind `head` opens, inside the scope `outer`."""
    if outer in ("function", "data"):
        return outer
    head = re.sub(r"template\s*<[^{}]*?>\s*(?=[\w\[:~])", "", head)
    if re.search(r"\bnamespace\b|\bextern\s*$", head):
        return "namespace"
    if re.search(r"\boperator\b|\)\s*(?:const|noexcept|override|final|mutable|->[^;{}]*|:[^;{}]*|\s)*$", head):
        return "function"
    return "type" if re.search(r"\b(?:class|struct|union|enum)\b", head) else "data"


def cpp_functions(text):
    """Yields (name, first line, number of lines)."""
    text = blank(text)
    scopes, start = [], 0  # of the statement that comes before the brace
    for match in re.finditer(r"[{};]", text):
        at = match.start()
        if match[0] == "{":
            head = text[start:at]
            outer = scopes[-1][0] if scopes else "namespace"
            begin = start + len(head) - len(head.lstrip())
            scopes.append((scope_of(head, outer), outer, begin, head))
        elif match[0] == "}" and scopes:
            scope, outer, begin, head = scopes.pop()
            if scope == "function" and outer != "function":
                head = re.sub(r"\b__(?:launch_bounds|cluster_dims)__\([^()]*\)", "", head)
                name = re.search(r"([\w:~]+(?:\([\w, ]*\))?|operator\S+)\s*\(", head)
                first = text.count("\n", 0, begin) + 1
                yield name[1] if name else "?", first, text.count("\n", 0, at) + 2 - first
        if not scopes or scopes[-1][0] != "function":
            start = at + 1


def python_functions(text):
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name, node.lineno, node.end_lineno - node.lineno + 1


def functions_of(path, text):
    if path.suffix in CPP:
        return cpp_functions(text)
    return python_functions(text) if path.suffix == ".py" else ()


class RepositoryTest(unittest.TestCase):
    def test_no_file_is_too_long(self):
        found = []
        for path in own_sources(ROOT):
            limit = MAX_TEST_FILE_LINES if path.parts[0] == "tests" else MAX_FILE_LINES
            lines = (ROOT / path).read_text(encoding="utf-8").count("\n")
            if lines > limit:
                found.append(f"{path} has {lines} lines, more than {limit}")
        self.assertEqual(found, [])

    def test_no_function_is_too_long(self):
        found = [f"{path}:{line}: {name} has {lines} lines, more than {MAX_FUNCTION_LINES}"
                 for path in own_sources(ROOT)
                 for name, line, lines in functions_of(path, (ROOT / path).read_text(encoding="utf-8"))
                 if lines > MAX_FUNCTION_LINES]
        self.assertEqual(found, [])

    def test_the_functions_are_found(self):
        names = [name for path in own_sources(ROOT) if path.suffix in CPP and path.parts[0] != "tests"
                 for name, _, _ in cpp_functions((ROOT / path).read_text(encoding="utf-8"))]
        self.assertGreater(len(names), 2000)
        for name in ("ParseProgramFlags", "PagedAttentionKernel", "CudaBackend::CreateStreams", "main"):
            self.assertIn(name, names)


class CounterTest(unittest.TestCase):
    def assert_functions(self, text, *expected):
        self.assertEqual(list(cpp_functions(text)), list(expected))

    def test_a_function_is_counted_from_its_head_to_its_end(self):
        self.assert_functions("namespace a {\n\ntemplate <typename T>\nint F(T x,\n      int y) {\n  return 1;\n}\n}", ("F", 3, 5))

    def test_blocks_and_lambdas_belong_to_their_function(self):
        self.assert_functions("void F() {\n  if (a) { b(); }\n  auto f = [&](int x) {\n    return x;\n  };\n}\n", ("F", 1, 6))

    def test_methods_constructors_and_operators_are_functions(self):
        self.assert_functions("struct A : B {\n  A(int x) : B(x) {}\n  int x() const { return 1; }\n  bool operator()(int) {}\n};",
                              ("A", 2, 1), ("x", 3, 1), ("operator()", 4, 1))

    def test_tests_are_functions_and_tables_are_not(self):
        self.assert_functions("TEST_F(ATest, B) {\n}\nconst int kTable[] = {1,\n 2};\nenum class E { kA };\n", ("TEST_F", 1, 2))

    def test_attributes_are_no_names(self):
        self.assert_functions("__global__ void __launch_bounds__(128)\n    K(int x) {\n}\n", ("K", 1, 3))

    def test_braces_in_strings_comments_and_macros_do_not_count(self):
        self.assert_functions("#define A {\n// {\nvoid F() {\n  g(\"{\", '{', R\"({)\");\n}\n", ("F", 3, 3))


if __name__ == "__main__":
    sys.exit(unittest.main())
