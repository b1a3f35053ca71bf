"""Processes that die: an error or the right answer, never garbage, and the cluster recovers."""

import concurrent.futures
import subprocess
import time
import unittest

from harness import SHORT, ClusterTest, RequestError, generate_command, make_document

RECOVERY_S = 30  # the router's connection backs off while a worker is away
LONG = make_document(tokens=8000, seed=31)


class FailuresTest(ClusterTest):
    def assert_recovers(self):
        deadline = time.monotonic() + RECOVERY_S
        while True:
            try:
                self.assert_answers()
                return
            except RequestError as error:
                self.assertIn(error.code, ("UNAVAILABLE", "RESOURCE_EXHAUSTED"), error.text)
                self.assertLess(time.monotonic(), deadline, "not recovered in time: " + error.text)
                time.sleep(0.2)

    def test_a_decode_worker_that_is_down_is_unavailable(self):
        self.assert_answers()
        self.cluster.kill("decode-0")
        begin = time.monotonic()
        with self.assertRaises(RequestError) as caught:
            self.ask(SHORT)
        self.assertEqual(caught.exception.code, "UNAVAILABLE", caught.exception.text)
        self.assertIn("decode", caught.exception.text)
        self.assertLess(time.monotonic() - begin, 30)
        self.cluster.restart("decode-0")
        self.assert_recovers()

    def check_death_during_a_request(self, name, delay_s):
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            running = pool.submit(self.ask, LONG, policy="full")
            time.sleep(delay_s)
            self.cluster.kill(name)
            self.cluster.restart(name)
            self.assertEqual(running.result(timeout=120)["text"].strip(), LONG.answer)
        self.assert_answers()

    def test_a_prefill_worker_that_dies_and_returns_loses_no_request(self):
        for delay_s in (0.1, 0.5, 1.0):
            with self.subTest(delay_s=delay_s):
                self.check_death_during_a_request("prefill-0", delay_s)

    def test_a_decode_worker_that_dies_and_returns_loses_no_request(self):
        for delay_s in (0.5, 1.0):
            with self.subTest(delay_s=delay_s):
                self.check_death_during_a_request("decode-0", delay_s)

    def test_a_client_that_goes_away_costs_nothing(self):
        client = subprocess.Popen(generate_command(self.cluster.address, prompt=LONG.document),
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.3)
        client.kill()
        client.wait()
        self.assert_answers()


class MigrationTest(ClusterTest):
    options = {"dtype": "f32", "decode_workers": 2}

    def generate_long(self):
        return self.ask(SHORT, policy="claa", max_tokens=800, ignore_eos=True)

    def test_a_decode_worker_that_dies_while_decoding_loses_no_token(self):
        begin = time.monotonic()
        expected = self.generate_long()["token_ids"]
        undisturbed_s = time.monotonic() - begin
        self.assertEqual(len(expected), 800)
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            # Two at a time, so that each decode worker has one.
            running = [pool.submit(self.generate_long) for _ in range(2)]
            time.sleep(0.5 * undisturbed_s)
            self.cluster.kill("decode-0")
            for request in running:
                self.assertEqual(request.result(timeout=120)["token_ids"], expected)


if __name__ == "__main__":
    unittest.main()
