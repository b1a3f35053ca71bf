"""The metrics that docs/design.md §7 lists, and what a /metrics page holds, in the same terms."""

import collections
import itertools
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
ANY = "*"
CODES = ("OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED "
         "RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS "
         "UNAUTHENTICATED").split()
SAMPLE = re.compile(r'^(\w+)(?:\{(.*)\})? (\S+)$')
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

# `kind` is that of a # TYPE line; `bounds` are a histogram's, as the document's first table of grids gives them.
Row = collections.namedtuple("Row", "name labels components kind bounds")
# Of one metric on a page: {labels without component and le: value or count}.
Metric = collections.namedtuple("Metric", "kind component values bounds")


def read_grids(text):
    """{"G1": [0.005, …], …}: those that the document writes out, and those that it says in words."""
    grids = {}
    for name in ("G1", "G2"):
        numbers = re.search(rf"{name} \([^)]*\) ([\d. ]+);", text).group(1)
        grids[name] = [float(number) for number in numbers.split()]
    grids["G3"] = [float(f"{step}e{power}") for power in range(-5, 1) for step in ("1", "2.5", "5")]
    grids["G4"] = [float(2**power) for power in range(16, 35, 2)]
    grids["G5"] = [float(step * 10**power) for power in range(6) for step in (1, 2, 5)] + [1e6]
    grids["G6"] = [step / 20 for step in range(1, 21)]
    return grids


def read_list(text):
    """The rows of the table in the document's section 7."""
    section = text[text.index("\n## 7."):text.index("\n## 8.")]
    grids = read_grids(section)
    rows = []
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not cells[0].startswith("`winnow_"):
            continue
        labels = {}
        for part in [] if cells[1] == "–" else cells[1].split(";"):
            label, values = part.split(":")
            labels[label.strip()] = CODES if values.strip() == "gRPC" else values.split()
        kind = cells[3] if cells[3] in ("counter", "gauge") else "histogram"
        bounds = grids[cells[3]] if cells[3] in grids else [2.0**power for power in range(8)]
        rows.append(Row(cells[0].strip("`"), labels, cells[2].split(), kind, bounds if kind == "histogram" else None))
    return rows


def listed():
    return read_list((ROOT / "docs/design.md").read_text(encoding="utf-8"))


def expected_series(rows, component):
    """{metric: the label sets that this component has}, each a frozenset of (label, value)."""
    found = collections.defaultdict(set)
    for row in rows:
        if component in row.components:
            choices = [[(label, value) for value in values] for label, values in row.labels.items()]
            found[row.name] |= {frozenset(choice) for choice in itertools.product(*choices)}
    return found


def parse_page(text):
    """{metric: Metric} of a page in Prometheus' text format."""
    kinds = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))
    values, bounds = collections.defaultdict(dict), collections.defaultdict(list)
    components = collections.defaultdict(set)
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        series, labels, value = SAMPLE.match(line).groups()
        labels = dict(LABEL.findall(labels or ""))
        name = series if series in kinds else re.sub(r"_(bucket|sum|count)$", "", series)
        components[name].add(labels.pop("component", None))
        bound = labels.pop("le", None)
        key = frozenset(labels.items())
        if bound is not None:
            bounds[name, key].append(float(bound))
        elif series == name or series.endswith("_count"):
            values[name][key] = float(value)
    return {name: Metric(kind, components[name], values[name],
                         {key: grid for (metric, key), grid in bounds.items() if metric == name})
            for name, kind in kinds.items()}


def matches(key, pattern):
    """Whether a label set is one of the list: the same labels, with the same values where these are given."""
    return {label for label, _ in key} == {label for label, _ in pattern} and all(
        value in (ANY, dict(key)[label]) for label, value in pattern)
