"""deploy/grafana/winnow.json is what tools/make_dashboards writes, can be drawn, and asks for metrics that exist."""

import json
import re
import subprocess
import sys
import unittest

from alerts_test import DASHBOARD, ROOT, metrics_of, rules
from metric_list import listed

ROWS = ["What the user sees", "Where TTFT goes", "Handoff", "CLAA", "Workers", "Router"]


class DashboardTest(unittest.TestCase):
    def setUp(self):
        self.board = json.loads(DASHBOARD.read_text(encoding="utf-8"))
        self.panels = [panel for panel in self.board["panels"] if panel["type"] != "row"]
        self.queries = [target["expr"] for panel in self.panels for target in panel["targets"]]

    def test_it_is_what_the_generator_writes(self):
        check = subprocess.run([sys.executable, ROOT / "tools/make_dashboards", "--check"], capture_output=True, text=True,
                               check=False)
        self.assertEqual(check.returncode, 0, check.stderr)

    def test_rows_tell_the_story_in_order(self):
        self.assertEqual([panel["title"] for panel in self.board["panels"] if panel["type"] == "row"], ROWS)

    def test_panels_have_numbers_of_their_own_and_do_not_overlap(self):
        self.assertEqual(len({panel["id"] for panel in self.board["panels"]}), len(self.board["panels"]))
        taken = set()
        for panel in self.board["panels"]:
            place = panel["gridPos"]
            cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                     for y in range(place["y"], place["y"] + place["h"])}
            self.assertFalse(taken & cells, panel["title"])
            self.assertLessEqual(place["x"] + place["w"], 24)
            taken |= cells

    def test_every_query_asks_for_metrics_and_rules_that_exist(self):
        known = {row.name for row in listed()}
        recorded = {rule["record"] for rule in rules() if "record" in rule}
        for query in self.queries:
            with self.subTest(query=query):
                self.assertEqual(metrics_of(query) - known, set())
                self.assertEqual(set(re.findall(r"\bwinnow:[\w:]+", query)) - recorded, set())
                self.assertTrue(metrics_of(query) or "winnow:" in query)

    def test_every_query_asks_for_the_chosen_namespaces_only(self):
        variable = next(entry for entry in self.board["templating"]["list"] if entry["name"] == "namespace")
        self.assertEqual((variable["includeAll"], variable["allValue"]), (True, ".*"))  # series without the label, too
        for query in self.queries:
            self.assertEqual(len(re.findall(r"\bwinnow[_:]", query)), query.count('namespace=~"$namespace"'), query)

    def test_every_metric_is_shown_or_watched(self):
        shown = {name for text in self.queries + [rule["expr"] for rule in rules()] for name in metrics_of(text)}
        # Totals and parts of what is shown; the canary's times are for whoever looks at the canary.
        unshown = {"winnow_prompt_tokens_total", "winnow_canary_runs_total", "winnow_canary_ttft_seconds",
                   "winnow_canary_duration_seconds"}
        self.assertEqual({row.name for row in listed()} - shown, unshown)

    def test_legends_use_labels_that_the_query_keeps(self):
        for panel in self.panels:
            for target in panel["targets"]:
                for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                    if "winnow:" not in target["expr"]:
                        self.assertRegex(target["expr"], rf"by \([^)]*\b{label}\b", panel["title"])


if __name__ == "__main__":
    unittest.main()
