"""Charts hold what they are given, and docs/panels shows queries of the dashboard as it is."""

import json
import math
import re
import sys
import unittest
import xml.etree.ElementTree as ElementTree

from alerts_test import ROOT

sys.path.insert(0, str(ROOT / "tools"))
from svg_chart import TOP, draw, nice_top, readable, stack  # noqa: E402

NAN = float("nan")


class ChartTest(unittest.TestCase):
    def shapes(self, svg, kind):
        return [shape.get("points") for shape in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}" + kind)]

    def test_stacked_series_stand_on_each_other(self):
        stacked = stack([("a", [(0, 1.0), (1, 2.0)]), ("b", [(0, 3.0), (1, 4.0)])])
        self.assertEqual(stacked, [("a", [(0, 0.0, 1.0), (1, 0.0, 2.0)]), ("b", [(0, 1.0, 4.0), (1, 2.0, 6.0)])])

    def test_what_is_no_number_is_left_out(self):
        line, = self.shapes(draw("t", "s", [("a", [(0, 1.0), (1, NAN), (2, 1.0)])], 0, 2), "polyline")
        self.assertEqual(len(line.split()), 2)

    def test_a_chart_is_well_formed_whatever_its_names(self):
        self.assertEqual(len(self.shapes(draw("<a> & b", "none", [("<&>", [(0, 0.0)])], 0, 1, stacked=True), "polygon")), 1)

    def test_the_highest_value_is_inside(self):
        rounds = [float(f"{step}e{power}") for power in range(-9, 13) for step in (1, 2, 3, 4, 5, 6, 7, 8, 9, 9.99)]
        for value in (near for value in rounds for near in (value, math.nextafter(value, math.inf), value * 1.0005)):
            self.assertGreaterEqual(nice_top(value), value)
            self.assertLessEqual(nice_top(value), 2.0000001 * value)
            line, = self.shapes(draw("t", "s", [("a", [(0, value), (1, 0.0)])], 0, 1), "polyline")
            self.assertGreaterEqual(float(line.split()[0].partition(",")[2]), TOP, value)

    def test_a_round_number_is_its_own_top(self):
        for value in (step * 10**power for power in range(13) for step in (1, 2, 3, 4, 5, 6, 8)):
            self.assertEqual(nice_top(value), value)

    def test_numbers_are_readable(self):
        for value, unit, text in ((0.0123, "s", "12.3 ms"), (2.5, "s", "2.5 s"), (0.1, "percentunit", "10 %"),
                                  (2.1e6, "Bps", "2.1 MB/s"), (7, "none", "7")):
            self.assertEqual(readable(value, unit), text)


class PanelsTest(unittest.TestCase):
    def test_the_page_shows_queries_of_the_dashboard_and_each_has_its_picture(self):
        board = json.loads((ROOT / "deploy/grafana/winnow.json").read_text(encoding="utf-8"))
        queries = {panel["title"]: [target["expr"] for target in panel.get("targets", [])] for panel in board["panels"]}
        page = (ROOT / "docs/panels/README.md").read_text(encoding="utf-8")
        sections = re.split(r"^## ", page, flags=re.MULTILINE)[1:]
        self.assertGreaterEqual(len(sections), 6)
        for section in sections:
            title = section.splitlines()[0]
            self.assertEqual(re.findall(r"^    (.*)$", section, re.MULTILINE), queries[title], title)
            picture = re.search(r"\]\((\S+\.svg)\)", section).group(1)
            drawn = ElementTree.parse(ROOT / "docs/panels" / picture).getroot()
            points = [shape.get("points").split() for shape in drawn.iter() if shape.get("points")]
            self.assertTrue(points and min(map(len, points)) > 20, f"{picture} is empty")


if __name__ == "__main__":
    unittest.main()
