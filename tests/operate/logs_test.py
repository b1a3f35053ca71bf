"""Log lines about a request name it and its trace, in every program that worked on it; the trace is the caller's."""

import json
import pathlib
import re
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
from harness import SHORT, ClusterTest, RequestError, unittest  # noqa: E402

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
NOBODYS = {"time", "level", "component", "message"}


class JsonLogTest(ClusterTest):
    options = {"log_format": "json", "log_level": "debug"}

    def lines(self):
        """Of all programs; every line is a JSON object."""
        return [json.loads(line) for name in self.cluster.processes() for line in self.cluster.log(name).splitlines()]

    def about(self, trace_id, components):
        """Lines about a trace, once each of the components has written one: they do so in their own time."""
        deadline = time.monotonic() + 20
        while True:
            found = [line for line in self.lines() if line.get("trace_id") == trace_id]
            if {line["component"] for line in found} >= components:
                return found
            self.assertLess(time.monotonic(), deadline, f"only {found}")
            time.sleep(0.05)

    def test_every_line_is_an_object_with_the_same_fields(self):
        self.ask(SHORT)
        for line in self.lines():
            self.assertIn(set(line), (NOBODYS, NOBODYS | {"request_id", "trace_id"}))
            self.assertIn(line["component"], ("router", "prefill", "decode"))
            self.assertRegex(line["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")

    def test_a_callers_trace_goes_through_all_programs_and_comes_back(self):
        result = self.ask(SHORT, traceparent=TRACEPARENT)
        self.assertEqual(result["trace_id"], TRACE)
        found = self.about(TRACE, {"router", "prefill", "decode"})
        names = {line["request_id"] for line in found}
        self.assertEqual(names, {result["request_id"]})
        self.assertIn("done", " ".join(line["message"] for line in found if line["component"] == "router"))

    def test_without_one_the_router_makes_one(self):
        traces = {self.ask(SHORT)["trace_id"] for _ in range(2)}
        self.assertEqual(len(traces), 2)
        for trace in traces:
            self.assertRegex(trace, r"^[0-9a-f]{32}$")
            self.about(trace, {"router", "prefill", "decode"})

    def test_what_fails_is_logged_with_its_trace(self):
        trace = TRACE[::-1]
        with self.assertRaises(RequestError):
            self.ask(SHORT, traceparent=f"00-{trace}-00f067aa0ba902b7-00", keep_ratio=7)
        refused = self.about(trace, {"router"})
        self.assertIn("INVALID_ARGUMENT", refused[0]["message"])

    def test_a_traceparent_that_is_none_is_refused_by_the_client(self):
        with self.assertRaises(RequestError) as caught:
            self.ask(SHORT, traceparent="00-12-34-56")
        self.assertIn("traceparent", caught.exception.text)

    def test_no_prompt_and_no_answer_is_ever_logged(self):
        self.ask(SHORT)
        text = json.dumps(self.lines())
        self.assertNotIn(SHORT.question, text)
        self.assertNotRegex(text, rf"\b{re.escape(SHORT.answer)}\b")


class TextLogTest(ClusterTest):
    def test_text_lines_name_the_request_behind_the_text(self):
        result = self.ask(SHORT, traceparent=TRACEPARENT)
        line = next(line for line in self.cluster.log("router").splitlines() if "done:" in line)
        self.assertTrue(line.endswith(f" request_id={result['request_id']} trace_id={TRACE}"), line)


if __name__ == "__main__":
    unittest.main()
