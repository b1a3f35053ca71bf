"""Routers that were not told of any worker's address: workers register themselves, or a name leads to them."""

import contextlib
import re
import signal
import subprocess
import time
import unittest

from harness import SHORT, ClusterTest, RequestError
from local_cluster import generate

LEASE_MS = 2000
PATIENCE_S = 60


class RegistrationTest(ClusterTest):
    options = {"register": True, "register_ttl_ms": LEASE_MS, "decode_workers": 2}

    def workers(self, role):
        """{state: count} of the workers that the router knows."""
        states = {}
        for series, value in self.cluster.metrics("router").items():
            if series.startswith("winnow_worker_state{") and f'role="{role}"' in series and value:
                states[series.split('state="')[1].split('"')[0]] = int(value)
        return states

    def wait_for(self, role, states):
        deadline = time.monotonic() + PATIENCE_S
        while self.workers(role) != states:
            self.assertLess(time.monotonic(), deadline, f"{role}: {self.workers(role)}, never {states}")
            time.sleep(0.05)

    def test_workers_that_registered_serve(self):
        self.assertNotIn("--prefill_workers", " ".join(self.cluster.processes()["router"]["command"]))
        self.assert_answers()
        self.wait_for("prefill", {"ready": 1})
        self.wait_for("decode", {"ready": 2})

    def test_a_worker_that_dies_is_gone_when_its_lease_ends_and_back_after_a_restart(self):
        self.cluster.kill("decode-1")
        self.wait_for("decode", {"ready": 1})
        self.assert_answers()
        self.cluster.restart("decode-1")
        self.wait_for("decode", {"ready": 2})
        self.assert_answers()

    def test_a_worker_that_stops_leaves_at_once(self):
        self.cluster.kill("decode-0", signal.SIGTERM)
        self.wait_for("decode", {"ready": 1})
        self.assertIn("leaves: it gets no new work", self.cluster.log("router"))
        self.assert_answers()
        self.cluster.restart("decode-0")
        self.wait_for("decode", {"ready": 2})

    def test_without_its_only_prefill_worker_the_router_says_so_until_it_is_back(self):
        self.cluster.kill("prefill-0")
        self.wait_for("prefill", {})
        with self.assertRaises(RequestError) as caught:
            self.ask(SHORT, timeout_s=60)
        self.assertEqual(caught.exception.code, "UNAVAILABLE", caught.exception.text)
        self.assertIn("no prefill worker", caught.exception.text)
        self.cluster.restart("prefill-0")
        self.wait_for("prefill", {"ready": 1})
        self.assert_answers()

    def test_a_router_that_restarts_finds_its_workers_again(self):
        self.cluster.restart("router")
        self.assert_answers()
        self.wait_for("decode", {"ready": 2})


class NamesTest(ClusterTest):
    @contextlib.contextmanager
    def router_of_names(self):
        """Another router, which finds the cluster's workers under the name localhost; its address."""
        processes = self.cluster.processes()
        def named(worker):
            return "dns:///localhost:" + processes[worker]["address"].rpartition(":")[2]
        command = [processes["router"]["command"][0], "--listen=127.0.0.1:0",
                   *(flag for flag in processes["router"]["command"] if flag.startswith("--model=")),
                   f"--prefill_workers={named('prefill-0')}", f"--decode_workers={named('decode-0')}"]
        router = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            ready = next(filter(None, (re.search(r"ready on (\S+)", line) for line in router.stderr)))
            yield ready.group(1)
        finally:
            router.terminate()
            router.communicate(timeout=PATIENCE_S)

    def test_a_name_leads_to_its_workers(self):
        with self.router_of_names() as address:
            result = generate(address, prompt=SHORT.prompt, max_tokens=16)
        self.assertEqual(result["text"].strip(), SHORT.answer)


if __name__ == "__main__":
    unittest.main()
