"""A real Prometheus scrapes a running cluster: every dashboard and alert finds its data there."""

import math
import pathlib
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
from alerts_test import rules  # noqa: E402
from dashboards_test import DASHBOARD, json  # noqa: E402
from harness import BIN, SHORT, ClusterTest, make_document, unittest  # noqa: E402
from local_prometheus import LocalPrometheus, for_range, free_port, operands  # noqa: E402

LONG = make_document(tokens=4000, seed=31)
PATIENCE_S = 60


class PrometheusTest(ClusterTest):
    options = {"prefill_tp": 2}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.canary = f"127.0.0.1:{free_port()}"
        folder = pathlib.Path(cls.cluster.processes()["router"]["log"]).parent
        cls.question = folder / "question"
        cls.question.write_text(SHORT.prompt, encoding="utf-8")
        cls.start_canary()
        pages = [process["http"] for process in cls.cluster.processes().values()] + [cls.canary]
        cls.prometheus = cls.enterClassContext(LocalPrometheus(pages))

    @classmethod
    def start_canary(cls):
        child = subprocess.Popen(
            [BIN / "winnow", "canary", "--address", cls.cluster.address, "--prompt-file", cls.question, "--expect", SHORT.answer,
             "--max-tokens", "16", "--http-listen", cls.canary, "--every-s", "1"], stdout=subprocess.DEVNULL)
        cls.addClassCleanup(child.wait)
        cls.addClassCleanup(child.terminate)

    def eventually(self, holds, text):
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            self.assertLess(time.monotonic(), deadline, text)
            time.sleep(0.2)

    def has_data(self, expression):
        return any(not math.isnan(value) for _, value in self.prometheus.query(expression))

    def ask_some(self):
        for document, policy in ((LONG, "claa"), (LONG, "full"), (SHORT, "claa")):
            self.ask(document, policy=policy, max_tokens=4)

    def test_1_every_target_is_scraped(self):
        self.eventually(lambda: self.prometheus.targets_up() == 4, "not all pages were scraped")
        components = {labels["component"] for labels, _ in self.prometheus.query("winnow_build_info")}
        self.assertEqual(components, {"router", "prefill", "decode"})

    def test_2_every_panel_has_data(self):
        self.ask_some()
        time.sleep(3)  # two scrapes, so that there are rates
        self.ask_some()
        board = json.loads(DASHBOARD.read_text(encoding="utf-8"))
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                expression = for_range(target["expr"])
                with self.subTest(panel=panel["title"], query=expression):
                    self.eventually(lambda: self.has_data(expression), "no data")

    def test_3_every_rule_is_evaluated_and_every_alert_has_what_it_compares(self):
        for rule in rules():
            with self.subTest(rule=rule.get("alert") or rule.get("record")):
                compared = operands(rule["expr"]) if "alert" in rule else rule["expr"]
                self.eventually(lambda: self.has_data(compared), f"no data for {compared}")
        states = self.prometheus.rules_state()
        self.assertEqual(len(states), len(rules()))
        self.assertEqual({state["health"] for state in states}, {"ok"})

    def test_4_a_healthy_cluster_alarms_nobody(self):
        awake = [state["name"] for state in self.prometheus.rules_state()
                 if state["type"] == "alerting" and state["state"] != "inactive" and "FirstToken" not in state["name"]
                 and "SecondToken" not in state["name"]]  # these two measure the machine of the test
        self.assertEqual(awake, [])

    def test_5_the_stages_explain_the_first_token_in_the_panel_that_says_so(self):
        window = "5m"

        def both():
            queries = [for_range(query["expr"], window) for query in self.targets_of("Stages and the whole")]
            return [self.prometheus.query(query)[0][1] for query in queries]

        self.eventually(lambda: (lambda ttft, stages: abs(stages - ttft) < 0.05 * ttft + 0.002)(*both()),
                        "TTFT and the sum of the stages stay apart")

    def targets_of(self, title):
        board = json.loads(DASHBOARD.read_text(encoding="utf-8"))
        return next(panel for panel in board["panels"] if panel["title"] == title)["targets"]

    def test_6_a_dead_decode_worker_raises_its_alerts_and_the_canary_hears_of_it(self):
        self.cluster.kill("decode-0")
        waiting = {"WinnowCanaryWrong", "WinnowWorkerNotReady", "WinnowNoDecodeCapacity"}

        def raised():
            return {state["name"] for state in self.prometheus.rules_state()
                    if state["type"] == "alerting" and state["state"] in ("pending", "firing")}

        self.eventually(lambda: waiting <= raised(), f"expected {waiting}")
        self.assertFalse(raised() & {"WinnowNoPrefillCapacity", "WinnowSelectionMismatch", "WinnowChecksumMismatch"})


if __name__ == "__main__":
    unittest.main()
