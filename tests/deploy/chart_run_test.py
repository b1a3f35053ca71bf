#!/usr/bin/env python3
"""The pods of the chart's cpu-demo values run from the image with the commands, files and users that their manifests say, and
their probes answer as they should; also with TLS and client tokens. Environment: WINNOW_BIN_DIR, WINNOW_DEPLOY_NPM.

    chart_run_test.py IMAGE_ROOT

IMAGE_ROOT is what image_build_test.py made. A pod of each Deployment runs; services' names stand for it. The test does the
work of the kubelet, which asks probes and mounts files, and of cert-manager.
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

from helm import NPM, VARIANTS, of_kind, render, role_of
from containers import HERE, Container, http_page, http_status, wait_until
from namespaces import isolate_network

NAMESPACE = "serving"
TOKEN = "a-token-of-the-canary"
TLS = ["tls.enabled=true", "tls.certManager.enabled=true", "tls.certManager.issuerRef.name=ca"]
TOKENS = ["router.clientTokens.secretName=clients", "canary.token.secretName=canary"]
KEYS = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
image_root = pathlib.Path(sys.argv.pop()).resolve()


def openssl(folder, *arguments):
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=60)


def issue(folder, names):
    """What cert-manager puts into a secret: a certificate for the names, its key, and the authority's certificate."""
    folder.mkdir()
    openssl(folder, "req", "-x509", *KEYS, "-days", "2", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.crt")
    openssl(folder, "req", *KEYS, "-subj", "/CN=winnow", "-addext", "subjectAltName=" + ",".join(f"DNS:{name}" for name in names),
            "-keyout", "tls.key", "-out", "request.pem")
    openssl(folder, "x509", "-req", "-in", "request.pem", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
            "-copy_extensions", "copy", "-out", "tls.crt")
    (folder / "tls.key").chmod(0o644)  # fsGroup lets the pod's user read it
    return folder


class ChartRunTest(unittest.TestCase):
    def install(self, *settings):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory(prefix="winnow-chart-")))
        self.manifests = render(*VARIANTS["cpu-demo"], *(word for setting in settings for word in ("--set", setting)))
        self.pods = {role_of(manifest): manifest["spec"]["template"]["spec"]
                     for manifest in of_kind(self.manifests, "Deployment").values()}
        self.files = {}  # by the name of the ConfigMap or secret: a folder
        for name, config in of_kind(self.manifests, "ConfigMap").items():
            self.keep(name, config["data"])
        for certificate in of_kind(self.manifests, "Certificate").values():
            spec = certificate["spec"]
            self.files[spec["secretName"]] = issue(self.folder / "tls", spec["dnsNames"])
        self.containers = {}

    def keep(self, name, files):
        self.files[name] = self.folder / f"files-{name}"
        self.files[name].mkdir()
        for file, text in files.items():
            (self.files[name] / file).write_text(text, encoding="utf-8")

    def volumes(self, role):
        """{where it is mounted: a folder}"""
        mounts = {mount["name"]: mount["mountPath"] for mount in self.pods[role]["containers"][0]["volumeMounts"]}
        sources = {volume["name"]: volume.get("configMap", {}).get("name") or volume.get("secret", {}).get("secretName")
                   for volume in self.pods[role]["volumes"]}
        return {mounts[name]: str(self.files[source]) for name, source in sources.items() if source}

    def start(self, *roles):
        hosts = [name + suffix for name in of_kind(self.manifests, "Service") for suffix in ("", f".{NAMESPACE}.svc")]
        for role in roles:
            container = self.pods[role]["containers"][0]
            self.containers[role] = Container(image_root, self.folder / role, container["command"] + container["args"],
                                              hosts=hosts, volumes=self.volumes(role))
            self.addCleanup(self.containers[role].kill)

    def stop(self, role):
        self.assertEqual(self.containers.pop(role).stop(), 0)

    def probe(self, role, name):
        """Whether one of a pod's probes succeeds."""
        container = self.pods[role]["containers"][0]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        if page := container[name].get("httpGet"):
            return http_status(ports[page["port"]], page["path"]) == 200
        grpc = container[name]["grpc"]
        asked = subprocess.run(["node", HERE / "probe.cjs", NPM, f"127.0.0.1:{grpc['port']}", grpc["service"]],
                               stdout=subprocess.DEVNULL, check=False, timeout=60)
        return asked.returncode == 0

    def eventually(self, what, holds):
        wait_until(holds, self.containers, what)

    def start_all(self):
        """The workers, to a router that runs; then the canary, whose answer is right."""
        self.start("prefill", "decode")
        for role in ("prefill", "decode", "router"):
            self.eventually(f"{role} is not ready", lambda role=role: self.probe(role, "readinessProbe"))
            self.assertTrue(self.probe(role, "startupProbe"), role)
            self.assertTrue(self.probe(role, "livenessProbe"), role)
        self.start("canary")
        self.eventually("the canary has no page", lambda: self.probe("canary", "livenessProbe"))
        right = re.compile(r"^winnow_canary_right\{.*\} 1$", re.MULTILINE)
        port = self.pods["canary"]["containers"][0]["ports"][0]["containerPort"]
        self.eventually("the canary is not right", lambda: right.search(http_page(port, "/metrics")))

    def test_pods_start_serve_and_survive_the_loss_of_their_peers(self):
        self.install()
        self.start("router")
        self.eventually("the router has not started", lambda: self.probe("router", "startupProbe"))
        # Without workers it is not ready, which is no reason to restart it.
        self.assertFalse(self.probe("router", "readinessProbe"))
        self.assertTrue(self.probe("router", "livenessProbe"))
        self.start_all()
        self.stop("decode")
        self.eventually("the router is still ready", lambda: not self.probe("router", "readinessProbe"))
        for role in ("router", "prefill"):
            self.assertTrue(self.probe(role, "livenessProbe"), role)
        for role in list(self.containers):
            self.stop(role)

    def test_they_do_so_with_tls_and_tokens(self):
        self.install(*TLS, *TOKENS)
        self.keep("clients", {"clients.json": json.dumps({"clients": [{"name": "canary", "token": TOKEN}]})})
        self.keep("canary", {"token": TOKEN + "\n"})
        self.start("router")
        self.start_all()


if __name__ == "__main__":
    isolate_network()
    unittest.main()
