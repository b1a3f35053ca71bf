"""Mutual TLS on every port, bearer tokens and their limits: who may ask what, and what others hear."""

import json
import pathlib
import subprocess
import tempfile
import time
import unittest

from harness import SHORT, ClusterTest, LocalCluster, RequestError

SEARCH, BATCH = "search-0123456789abcdef", "batch-0123456789abcdef"
CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def openssl(folder, *arguments):
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def make_certificates(folder):
    """ca.pem, and cert.pem with key.pem that it signed for 127.0.0.1 and router.winnow."""
    folder.mkdir(exist_ok=True)
    openssl(folder, "req", "-x509", *CURVE, "-days", "2", "-subj", "/CN=authority",
            "-keyout", "ca.key", "-out", "ca.pem")
    openssl(folder, "req", *CURVE, "-subj", "/CN=peer", "-addext", "subjectAltName=IP:127.0.0.1,DNS:router.winnow",
            "-keyout", "key.pem", "-out", "request.pem")
    openssl(folder, "x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-CAcreateserial", "-days", "2", "-copy_extensions", "copy", "-out", "cert.pem")
    return folder


class SecurityTest(ClusterTest):
    @classmethod
    def setUpClass(cls):
        folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory(prefix="winnow-security-")))
        cls.ours, cls.foreign = make_certificates(folder / "ours"), make_certificates(folder / "foreign")
        cls.clients = folder / "clients.json"
        cls.write_clients(batch={"min_keep_ratio": 0.2, "max_requests": 1})
        for name, token in (("search", SEARCH), ("batch", BATCH), ("wrong", SEARCH[:-1] + "x")):
            (folder / name).write_text(token + "\n", encoding="utf-8")
        cls.folder = folder
        cls.options = {"tls_dir": cls.ours, "client_tokens": cls.clients}
        super().setUpClass()

    @classmethod
    def write_clients(cls, batch, search_token=SEARCH):
        clients = [{"name": "search", "token": search_token}, {"name": "batch", "token": BATCH, **batch}]
        cls.clients.write_text(json.dumps({"clients": clients}), encoding="utf-8")

    def generate(self, client="search", show=None, trust=None, **options):
        """`client` shows its token; `show` and `trust` are folders of certificates, ours if not given."""
        show, trust = show or self.ours, trust or self.ours
        if client:
            options["token_file"] = self.folder / client
        return super().generate(tls_ca=trust / "ca.pem", tls_cert=show / "cert.pem",
                                tls_key=show / "key.pem", timeout_s=20, **options)

    def test_who_is_known_gets_answers(self):
        self.assert_answers()
        self.assert_answers(client="batch", keep_ratio=0.25)

    def test_no_token_and_a_wrong_one_are_unauthenticated(self):
        self.assert_refused("UNAUTHENTICATED", "authorization", prompt="hello", client=None)
        self.assert_refused("UNAUTHENTICATED", "no client has this token", prompt="hello", client="wrong")

    def test_a_token_limits_what_may_be_asked(self):
        self.assert_refused("PERMISSION_DENIED", "batch.*keep ratios of 0.2", prompt=SHORT.prompt,
                            client="batch", keep_ratio=0.1)

    def test_a_foreign_certificate_ends_the_handshake(self):
        for foreign in ({"show": self.foreign}, {"trust": self.foreign}):
            with self.subTest(foreign=list(foreign)), self.assertRaises(RequestError) as caught:
                self.generate(prompt="hello", **foreign)
            self.assertIn(caught.exception.code, ("UNAVAILABLE", "DEADLINE_EXCEEDED"))
        self.assert_answers()

    def test_the_name_of_the_router_may_be_another_than_its_address(self):
        self.assert_answers(tls_server_name="router.winnow")
        with self.assertRaises(RequestError) as caught:
            self.generate(prompt="hello", tls_server_name="other.winnow")
        self.assertIn(caught.exception.code, ("UNAVAILABLE", "DEADLINE_EXCEEDED"))

    def test_plain_text_is_not_answered(self):
        with self.assertRaises(RequestError) as caught:
            self.cluster.generate(prompt="hello", timeout_s=10)
        self.assertIn(caught.exception.code, ("UNAVAILABLE", "DEADLINE_EXCEEDED"))
        self.assert_answers()

    def test_changed_limits_hold_without_a_restart(self):
        try:
            self.write_clients(batch={"tokens_per_minute": 20})
            deadline = time.monotonic() + 10
            while True:
                try:
                    self.ask(SHORT, client="batch", keep_ratio=0.25)
                except RequestError as error:
                    self.assertEqual(error.code, "INVALID_ARGUMENT")
                    self.assertRegex(error.text, "allows 20 a minute")
                    break
                self.assertLess(time.monotonic(), deadline, "the new limit never held")
        finally:
            self.write_clients(batch={"min_keep_ratio": 0.2, "max_requests": 1})


class BeyondLoopbackTest(unittest.TestCase):
    def test_a_worker_that_others_could_reach_wants_tls(self):
        with LocalCluster() as cluster:
            command = cluster.processes()["decode-0"]["command"]
            child = subprocess.run([*command, "--listen=0.0.0.0:0"], capture_output=True, text=True, timeout=60)
        self.assertNotEqual(child.returncode, 0)
        self.assertRegex(child.stdout + child.stderr, "0.0.0.0.*--allow-plaintext")


if __name__ == "__main__":
    unittest.main()
