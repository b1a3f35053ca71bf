#!/usr/bin/env python3
"""deploy/compose.yaml, and what Prometheus and Grafana are started with in it. image_run_test.py runs its services.
Environment: WINNOW_BIN_DIR.
"""

import json
import re
import subprocess
import tempfile
import unittest

import system_python  # noqa: F401, I001  (before yaml)
import yaml
from dockerfile import ROOT, chain, read_stages
from program_flags import flags_of, unknown_flags

DEPLOY = ROOT / "deploy"
EXIT_SECONDS = 2


def read(path):
    return yaml.safe_load((DEPLOY / path).read_text(encoding="utf-8"))


SERVICES = read("compose.yaml")["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("winnow:")}


SERVERS = {name: service for name, service in OURS.items() if name != "canary"}


def port_of(service, flag):
    return int(flags_of(service["command"])[flag].rpartition(":")[2])


class ComposeTest(unittest.TestCase):
    def test_programs_know_every_flag(self):
        self.assertEqual(sorted(OURS), ["canary", "decode", "prefill", "router"])
        for service in OURS.values():
            program, *arguments = service["command"]
            self.assertEqual(unknown_flags([program], arguments), set())

    def test_containers_have_no_rights_and_only_tmp(self):
        for service in OURS.values():
            self.assertIs(service["read_only"], True)
            self.assertEqual(service["cap_drop"], ["ALL"])
            self.assertEqual(service["security_opt"], ["no-new-privileges:true"])
            self.assertEqual(service["tmpfs"], ["/tmp"])
            self.assertNotIn("privileged", service)

    def test_a_container_is_waited_for_until_it_has_drained(self):
        for service in SERVERS.values():
            seconds = int(re.fullmatch(r"(\d+)s", service["stop_grace_period"])[1])
            self.assertGreaterEqual(seconds, int(flags_of(service["command"])["drain-timeout-s"]) + EXIT_SECONDS)

    def test_the_router_is_told_the_workers_by_name(self):
        router = flags_of(SERVICES["router"]["command"])
        for role in ("prefill", "decode"):
            name, port = re.fullmatch(r"dns:///(\w+):(\d+)", router[f"{role}-workers"]).groups()
            self.assertEqual(int(port), port_of(SERVICES[name], "listen"))

    def test_nothing_is_published_beyond_this_machine(self):
        for service in SERVICES.values():
            for port in service.get("ports", []):
                self.assertRegex(port, r"^127\.0\.0\.1:")

    def test_images_have_a_version_and_ours_is_built_from_the_dockerfile(self):
        for service in SERVICES.values():
            self.assertRegex(service["image"], r":[\w.-]*\d[\w.-]*$")
        build = SERVICES["router"]["build"]
        self.assertEqual((DEPLOY / build["context"]).resolve(), ROOT)
        stages = read_stages((ROOT / build["dockerfile"]).read_text(encoding="utf-8"))
        self.assertEqual(chain(stages, build["target"])[0], "scratch")

    def test_one_version_everywhere(self):
        version = re.search(r"project\(winnow VERSION (\S+)", (ROOT / "CMakeLists.txt").read_text(encoding="utf-8"))[1]
        self.assertEqual(read("helm/winnow/Chart.yaml")["appVersion"], version)
        self.assertEqual(read("helm/winnow/values/cpu-demo.yaml")["image"]["tag"], f"{version}-demo")
        for service in OURS.values():
            self.assertEqual(service["image"], f"winnow:{version}-demo")
        for page in (DEPLOY / "Dockerfile", ROOT / "docs/operating.md"):
            tags = re.findall(r"winnow:([\d.]+)-", page.read_text(encoding="utf-8"))
            self.assertEqual(set(tags), {version}, page.name)

    def test_what_is_mounted_exists(self):
        for service in SERVICES.values():
            for volume in service.get("volumes", []):
                source, _, mode = volume.split(":")
                self.assertTrue((DEPLOY / source).is_dir(), volume)
                self.assertEqual(mode, "ro")


class PrometheusTest(unittest.TestCase):
    def test_prometheus_accepts_its_configuration_and_rules(self):
        text = (DEPLOY / "prometheus/prometheus.yaml").read_text(encoding="utf-8")
        self.assertIn("/etc/prometheus/alerts", text)
        with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
            file.write(text.replace("/etc/prometheus/", f"{DEPLOY}/prometheus/"))
            file.flush()
            child = subprocess.run(["promtool", "check", "config", file.name], capture_output=True, text=True, check=False,
                                   timeout=60)
        self.assertEqual(child.returncode, 0, child.stdout + child.stderr)

    def test_alerts_watch_every_job(self):
        watched, = set(re.findall(r'up\{job=~"([^"]+)"', (DEPLOY / "prometheus/alerts.yaml").read_text(encoding="utf-8")))
        for job in ["winnow", *(job["job_name"] for job in read("prometheus/prometheus.yaml")["scrape_configs"])]:
            self.assertRegex(job, f"^(?:{watched})$")

    def test_it_scrapes_every_container_of_ours_where_it_listens(self):
        scraped = {}
        for job in read("prometheus/prometheus.yaml")["scrape_configs"]:
            discovery, = job["dns_sd_configs"]
            scraped[discovery["names"][0]] = discovery["port"]
        self.assertEqual(scraped, {name: port_of(service, "http-listen") for name, service in OURS.items()})


class GrafanaTest(unittest.TestCase):
    def test_its_folders_are_where_it_looks(self):
        mounts = dict(volume.split(":")[:2][::-1] for volume in SERVICES["grafana"]["volumes"])
        self.assertIn("/etc/grafana/provisioning", mounts)
        provider, = read("grafana/provisioning/dashboards/winnow.yaml")["providers"]
        self.assertEqual(mounts[provider["options"]["path"]], "./grafana")
        source, = read("grafana/provisioning/datasources/prometheus.yaml")["datasources"]
        self.assertEqual(source["url"], "http://prometheus:9090")

    def test_dashboards_ask_the_data_source_that_there_is(self):
        uid = read("grafana/provisioning/datasources/prometheus.yaml")["datasources"][0]["uid"]

        def sources(part):
            if isinstance(part, dict):
                if isinstance(part.get("datasource"), dict):
                    yield part["datasource"].get("uid")
                for value in part.values():
                    yield from sources(value)
            elif isinstance(part, list):
                for value in part:
                    yield from sources(value)

        for file in (DEPLOY / "grafana").glob("*.json"):
            for used in sources(json.loads(file.read_text(encoding="utf-8"))):
                self.assertTrue(used in (uid, "-- Grafana --") or str(used).startswith("$"), f"{file.name}: {used}")


if __name__ == "__main__":
    unittest.main()
