"""Every metric of docs/design.md §7 is there from the start, exactly as listed, and moves when it should.

What a quiet machine cannot move is in NEEDS_FAULT, which fault_metrics_test.py moves in test builds, and NEEDS_NCCL, which
tests/engine/nccl_communicator_test.cc does.
"""

import pathlib
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
from harness import BIN, SHORT, ClusterTest, RequestError, generate_command, make_document, unittest  # noqa: E402
from metric_list import expected_series, listed, matches, parse_page  # noqa: E402

ROWS = listed()
COMPONENTS = ("router", "prefill", "decode")
LONG = make_document(tokens=6000, seed=31)
NEEDS_NCCL = {"winnow_nccl_aborts_total"}
NEEDS_FAULT = {"winnow_kv_transfer_failures_total", "winnow_kv_checksum_mismatch_total",
               "winnow_kv_credit_stall_seconds_total", "winnow_kv_leases_expired_total", "winnow_kv_pinned_bytes",
               "winnow_selection_digest_mismatch_total"}
CONSTANT = {"winnow_build_info", "winnow_model_info"}  # 1 from the start


def component_of(process):
    return process.split("-")[0]


class Watch:
    """What a cluster's pages say, and which series have ever differed from how they were at first."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.first = self.read()
        self.moved = set()

    def read(self):
        found = {}
        for process in self.cluster.processes():
            try:
                page = parse_page(self.cluster.metrics_page(process))
            except OSError:
                continue  # it was killed
            for name, metric in page.items():
                found.update({(process, name, labels): value for labels, value in metric.values.items()})
        return found

    def look(self):
        """{(component, metric, label set): value}, added up over the component's processes"""
        sums = {}
        for (process, name, labels), value in self.read().items():
            key = component_of(process), name, labels
            sums[key] = sums.get(key, 0) + value
            if value != self.first[process, name, labels]:
                self.moved.add(key)
        return sums

    def names(self):
        return {(component, name) for component, name, _ in self.moved}


class ListTest(ClusterTest):
    """Before any request."""

    def test_every_component_has_what_is_listed_and_nothing_else(self):
        for process in ("router", "prefill-0", "decode-0"):
            expected = expected_series(ROWS, component_of(process))
            page = parse_page(self.cluster.metrics_page(process))
            self.assertEqual(set(page), set(expected), process)
            for name, metric in page.items():
                with self.subTest(process=process, metric=name):
                    self.assertEqual(metric.component, {component_of(process)})
                    unmatched = [key for key in metric.values if not any(matches(key, p) for p in expected[name])]
                    missing = [p for p in expected[name] if not any(matches(key, p) for key in metric.values)]
                    self.assertEqual((unmatched, missing), ([], []))
                    self.assertEqual(len(metric.values), len(expected[name]))

    def test_kinds_and_grids_are_the_listed_ones(self):
        rows = {row.name: row for row in ROWS}
        for process in ("router", "prefill-0", "decode-0"):
            for name, metric in parse_page(self.cluster.metrics_page(process)).items():
                with self.subTest(process=process, metric=name):
                    self.assertEqual(metric.kind, rows[name].kind)
                    for bounds in metric.bounds.values():
                        self.assertEqual(bounds, rows[name].bounds + [float("inf")])

    def test_all_begin_at_zero(self):
        for process in ("router", "prefill-0", "decode-0"):
            for name, metric in parse_page(self.cluster.metrics_page(process)).items():
                for labels, value in metric.values.items():
                    with self.subTest(process=process, metric=name, labels=sorted(labels)):
                        if name in CONSTANT:
                            self.assertEqual(value, 1)
                        elif metric.kind != "gauge":
                            self.assertEqual(value, 0)

    def test_promtool_finds_nothing_to_say(self):
        for process in ("router", "prefill-0", "decode-0"):
            with self.subTest(process=process):
                page = self.cluster.metrics_page(process)
                said = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, text=True)
                self.assertEqual((said.returncode, said.stdout + said.stderr), (0, ""))


class MovesTest(ClusterTest):
    """One request of every kind."""

    options = {"prefill_tp": 2, "decode_workers": 2, "chunk_tokens": 256, "max_queue": 24}

    def settle(self, component, name, labels, value):
        """Waits until a series has a value: some are counted just after the answer."""
        deadline = time.monotonic() + 20
        while (now := self.watch.look())[component, name, frozenset(labels.items())] != value:
            self.assertLess(time.monotonic(), deadline, f"{name}{labels}")
            time.sleep(0.02)
        return now

    def delta(self, now, component, name, **labels):
        key = component, name, frozenset(labels.items())
        return now[key] - self.before[key]

    def check_one_request(self, policy):
        """The counts of one good request, against what it told its client."""
        self.before = self.watch.look()
        done = self.before["prefill", "winnow_requests_total", frozenset({("code", "OK")})] + 1
        ended = self.before["decode", "winnow_requests_total", frozenset({("code", "OK")})] + 1
        result = self.ask(LONG, policy=policy, max_tokens=8, ignore_eos=True)
        self.settle("prefill", "winnow_requests_total", {"code": "OK"}, done)
        now = self.settle("decode", "winnow_requests_total", {"code": "OK"}, ended)
        tokens, ledger = result["prompt_tokens"], result["ledger"]

        def moved(component, name, **labels):
            return self.delta(now, component, name, **labels)

        self.assertEqual(moved("router", "winnow_requests_total", code="OK"), 1)
        bucket = "4k" if tokens <= 4096 else "16k"
        self.assertEqual(moved("router", "winnow_request_ttft_seconds", policy=policy, prompt_bucket=bucket), 1)
        self.assertEqual(moved("router", "winnow_request_second_token_seconds", policy=policy), 1)
        self.assertEqual(moved("router", "winnow_decode_ready_seconds"), 1)
        self.assertEqual(moved("router", "winnow_request_duration_seconds", outcome="ok"), 1)
        for where in COMPONENTS:
            self.assertEqual(moved(where, "winnow_request_queue_seconds", where=where), 1)
        self.assertEqual(moved("prefill", "winnow_prompt_tokens_total"), tokens)
        self.assertEqual(moved("prefill", "winnow_prefill_computed_tokens_total"), tokens)
        self.assertEqual(moved("prefill", "winnow_score_allreduce_seconds", tp="2"), policy == "claa")
        self.assertEqual(moved("prefill", "winnow_keep_ratio", policy=policy), 1)
        for name in ("winnow_prefill_ttft_seconds", "winnow_prompt_tokens", "winnow_kv_transfer_seconds",
                     "winnow_kv_transfer_exposed_seconds", "winnow_kv_transfer_size_bytes"):
            self.assertEqual(moved("prefill", name), 1, name)
        for stage in ("kv_send", "commit"):
            self.assertEqual(moved("prefill", "winnow_overlapped_seconds", stage=stage), 1)
        for row in ROWS:
            if row.name == "winnow_stage_seconds":
                for stage in row.labels["stage"]:
                    self.assertEqual(moved(row.components[0], row.name, stage=stage), 1, stage)
        self.assertEqual(moved("prefill", "winnow_kv_transfer_bytes_total", direction="sent"), ledger["kv_bytes_shipped"])
        self.assertEqual(moved("decode", "winnow_kv_transfer_bytes_total", direction="received"),
                         ledger["kv_bytes_shipped"])
        for segment in ("all", "per_head", "selected"):
            for fate in ("kept", "pruned"):
                self.assertEqual(moved("prefill", "winnow_kv_entries_total", segment=segment, fate=fate),
                                 ledger["segments"][segment]["entries_" + fate], (segment, fate))
        self.assertEqual(moved("decode", "winnow_generation_tokens_total"), 7)  # token 0 is the prefill worker's
        self.assertEqual(moved("decode", "winnow_decode_batch_size"), 7)
        self.assertEqual(moved("decode", "winnow_inter_token_latency_seconds"), 7)
        for name in ("winnow_wasted_tokens_total", "winnow_retries_total", "winnow_cancellations_total"):
            changed = [key for key in now if key[1] == name and now[key] != self.before[key]]
            self.assertEqual(changed, [])

    def check_refused(self):
        self.before = self.watch.look()
        with self.assertRaises(RequestError):
            self.ask(SHORT, keep_ratio=7)
        self.settle("router", "winnow_rejections_total", {"reason": "invalid"}, 1)

    def check_stopped(self):
        """Clients that go away while their prompts are computed."""
        self.before = self.watch.look()
        held = [subprocess.Popen(generate_command(self.cluster.address, prompt_file=self.prompt_file, policy="full"),
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(3)]
        try:
            deadline = time.monotonic() + 60
            while True:
                now = self.watch.look()
                inflight = now["prefill", "winnow_requests_inflight", frozenset()]
                if inflight == 3 and self.delta(now, "prefill", "winnow_prefill_computed_tokens_total") > 0:
                    break
                self.assertLess(time.monotonic(), deadline, f"{inflight} jobs")
        finally:
            for child in held:
                child.kill()
                child.wait()
        self.settle("router", "winnow_requests_inflight", {}, 0)
        self.settle("prefill", "winnow_requests_inflight", {}, 0)
        now = self.watch.look()
        self.assertEqual(self.delta(now, "router", "winnow_cancellations_total", stage="prefill"), 3)
        self.assertEqual(self.delta(now, "router", "winnow_request_duration_seconds", outcome="cancelled"), 3)
        self.assertGreater(self.delta(now, "prefill", "winnow_wasted_tokens_total", reason="cancelled"), 0)

    def check_queue(self):
        """More prompts at once than a prefill worker works on at a time (16), and than it takes (24)."""
        load = subprocess.Popen(
            [BIN / "winnow", "load", "--address", self.cluster.address, "--rate", "1000", "--requests", "40",
             "--prompt-tokens", "1500", "--max-tokens", "2"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 60
            while not self.watch.names() >= {("prefill", "winnow_requests_queued"), ("prefill", "winnow_queued_prefill_seconds"),
                                             ("router", "winnow_requests_waiting")}:
                self.assertLess(time.monotonic(), deadline, "nothing ever waited")
                self.watch.look()
        finally:
            load.kill()
            load.wait()
        self.settle("router", "winnow_requests_inflight", {}, 0)
        self.settle("prefill", "winnow_requests_queued", {"priority": "normal"}, 0)
        self.settle("router", "winnow_requests_waiting", {}, 0)

    def check_moved_generation(self):
        """A decode worker dies while it decodes: the generation goes on elsewhere."""
        def made(name):
            return self.cluster.metrics(name)["winnow_generation_tokens_total"]

        before = {name: made(name) for name in ("decode-0", "decode-1")}
        child = subprocess.Popen(
            generate_command(self.cluster.address, prompt_file=self.prompt_file, max_tokens=1500, ignore_eos=True),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 60
            while not (busy := [name for name in before if made(name) > before[name]]):
                self.assertLess(time.monotonic(), deadline, "nobody decodes")
                self.assertIsNone(child.poll(), "it ended too soon")
                self.watch.look()
            self.cluster.kill(busy[0])
            deadline = time.monotonic() + 60
            while not self.watch.names() >= {("router", "winnow_migrations_total"), ("router", "winnow_worker_state")}:
                self.assertLess(time.monotonic(), deadline, "it did not move")
                self.watch.look()
                time.sleep(0.02)
        finally:
            child.kill()
            child.wait()
        self.cluster.restart(busy[0])

    def test_every_metric_moves(self):
        self.prompt_file = pathlib.Path(self.cluster.processes()["router"]["log"]).with_name("prompt")
        self.prompt_file.write_text(LONG.prompt, encoding="utf-8")
        self.watch = Watch(self.cluster)
        for policy in ("claa", "full"):
            self.check_one_request(policy)
        self.ask(SHORT, max_tokens=1)
        self.check_refused()
        self.check_stopped()
        self.check_queue()
        self.check_moved_generation()
        expected = {(component, row.name) for row in ROWS for component in row.components
                    if component in COMPONENTS}
        elsewhere = {pair for pair in expected if pair[1] in NEEDS_FAULT | NEEDS_NCCL | CONSTANT}
        self.assertEqual(expected - self.watch.names() - elsewhere, set(), "these never moved")

    def test_the_stages_explain_the_time_to_the_first_token(self):
        before = self.sums()
        for policy in ("claa", "full", "claa"):
            self.ask(LONG, policy=policy)
        deadline = time.monotonic() + 20
        while True:
            now = self.sums()
            counts = {now[key][1] - before[key][1] for key in now}
            if counts == {3.0}:
                break
            self.assertLess(time.monotonic(), deadline, f"requests counted: {counts}")
            time.sleep(0.05)
        means = {key: (now[key][0] - before[key][0]) / 3 for key in now}
        ttft = means.pop("ttft")
        self.assertGreater(ttft, 0.2)
        self.assertLess(abs(sum(means.values()) - ttft), 0.02 * ttft + 0.0005, f"TTFT {ttft}, stages {means}")
        # The rest is the network's and the router's: an unmeasured wait would hide there.
        self.assertLess(means["dispatch"] + means["relay"], 0.1 * ttft + 0.02, means)

    def sums(self):
        """{stage or "ttft": (sum, count)} over the cluster"""
        found = {}
        for process in ("router", "prefill-0"):
            page = self.cluster.metrics(process)
            for series, value in page.items():
                if series.startswith("winnow_stage_seconds_sum"):
                    count = page[series.replace("_sum", "_count")]
                    found[series.split('"')[1]] = value, count
                elif series.startswith("winnow_request_ttft_seconds_sum"):
                    total, requests = found.get("ttft", (0, 0))
                    found["ttft"] = total + value, requests + page[series.replace("_sum", "_count")]
        return found


if __name__ == "__main__":
    unittest.main()
