"""The alerts are well-formed, have a page to read and tests of both kinds, and speak of metrics that exist."""

import json
import pathlib
import re
import shutil
import subprocess
import unittest

import yaml
from metric_list import listed

ROOT = pathlib.Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy/prometheus/alerts.yaml"
CASES = ROOT / "tests/operate/alerts_test.yaml"
DASHBOARD = ROOT / "deploy/grafana/winnow.json"


def load(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def rules():
    return [rule for group in load(RULES)["groups"] for rule in group["rules"]]


def metrics_of(expression):
    """Names of ours in an expression, those of histograms without their suffixes."""
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\bwinnow_\w+", expression)}


class AlertsTest(unittest.TestCase):
    def setUp(self):
        self.alerts = {rule["alert"]: rule for rule in rules() if "alert" in rule}

    def promtool(self, *arguments):
        self.assertTrue(shutil.which("promtool"), "promtool is not installed; run scripts/setup test")
        said = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, check=False)
        self.assertEqual(said.returncode, 0, said.stdout + said.stderr)

    def test_promtool_accepts_the_rules(self):
        self.promtool("check", "rules", RULES)

    def test_each_fires_when_it_should_and_not_when_it_should_not(self):
        self.promtool("test", "rules", CASES)

    def test_each_has_a_case_of_both_kinds(self):
        cases = [case for test in load(CASES)["tests"] for case in test["alert_rule_test"]]
        firing = {case["alertname"] for case in cases if case["exp_alerts"]}
        quiet = {case["alertname"] for case in cases if not case["exp_alerts"]}
        self.assertEqual((firing, quiet), (set(self.alerts), set(self.alerts)))

    def test_each_leads_to_a_heading_of_its_name(self):
        headings = re.findall(r"^## (\w+)$", (ROOT / "docs/alerts.md").read_text(encoding="utf-8"), re.MULTILINE)
        self.assertEqual(headings, list(self.alerts))
        for name, rule in self.alerts.items():
            self.assertEqual(rule["annotations"]["runbook"], "docs/alerts.md#" + name.lower())
            self.assertIn(rule["labels"]["severity"], ("critical", "warning"))

    def test_the_page_names_panels_and_rows_that_exist(self):
        titles = {panel["title"] for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]}
        named = set(re.findall(r"\*([^*\n]+)\*", (ROOT / "docs/alerts.md").read_text(encoding="utf-8")))
        self.assertGreaterEqual(len(named), 4)
        self.assertEqual(named - titles, set())

    def test_they_speak_of_metrics_and_rules_that_exist(self):
        known = {row.name for row in listed()}
        recorded = {rule["record"] for rule in rules() if "record" in rule}
        for rule in rules():
            with self.subTest(rule=rule.get("alert") or rule.get("record")):
                self.assertEqual(metrics_of(rule["expr"]) - known, set())
                self.assertEqual(set(re.findall(r"\bwinnow:[\w:]+", rule["expr"])) - recorded, set())

    def test_bounds_that_objectives_ask_for_are_in_the_grid(self):
        grids = {row.name: row.bounds for row in listed()}
        asked = re.findall(r'(winnow_\w+)_bucket\{le=~"([\d.]+)\|', RULES.read_text(encoding="utf-8"))
        self.assertEqual(len(asked), 8)
        for metric, bound in asked:
            self.assertIn(float(bound), grids[metric])


if __name__ == "__main__":
    unittest.main()
