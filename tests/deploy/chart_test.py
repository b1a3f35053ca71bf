#!/usr/bin/env python3
"""What the chart promises, read from what helm makes of it. Environment: WINNOW_BIN_DIR, WINNOW_DEPLOY_NPM."""

import functools
import pathlib
import re
import shutil
import tempfile
import unittest

from helm import CHART, PODS, ROLES, VALUES_FILES, VARIANTS, HelmError, helm, of_kind, render, role_of
import yaml  # noqa: I001  (helm brings the Python that has it)
from dockerfile import ROOT
from program_flags import flags_of, unknown_flags

RENDERED = {name: render(*arguments) for name, arguments in VARIANTS.items()}
EXIT_SECONDS = 2  # a server's own, from the end of its drain to the end of the process


def pods(manifests):
    """{role: (Deployment, its pod's spec, the container)}, of all pods."""
    return {role_of(manifest): (manifest, manifest["spec"]["template"]["spec"],
                                manifest["spec"]["template"]["spec"]["containers"][0])
            for manifest in of_kind(manifests, "Deployment").values()}


def deployments(manifests):
    """The same of the parts that serve requests."""
    return {role: part for role, part in pods(manifests).items() if role in ROLES}


@functools.cache
def values_of(name):
    """The chart's defaults under those of the variant, as helm merges them."""
    with tempfile.TemporaryDirectory() as folder:
        chart = pathlib.Path(folder) / "winnow"
        shutil.copytree(CHART, chart, ignore=lambda *_: ["templates", "files"])
        (chart / "templates").mkdir()
        (chart / "templates/values.yaml").write_text("{{ toYaml .Values }}\n", encoding="utf-8")
        document, = yaml.safe_load_all(helm("template", "winnow", str(chart), *VARIANTS[name]))
        return document


def least_replicas(manifests, role):
    """The fewest pods that a part has: an autoscaler's least, where there is one."""
    for kind, field in (("HorizontalPodAutoscaler", "minReplicas"), ("ScaledObject", "minReplicaCount")):
        for scaler in of_kind(manifests, kind).values():
            if role_of(scaler) == role:
                return scaler["spec"][field]
    return deployments(manifests)[role][0]["spec"]["replicas"]


class EveryVariant(unittest.TestCase):
    """Tests that hold for each way to install; a failure names it."""

    where = ""

    def _formatMessage(self, msg, standardMsg):
        return f"{self.where}: {super()._formatMessage(msg, standardMsg)}"

    def each(self):
        for self.where, manifests in RENDERED.items():
            yield self.where, manifests

    def each_part(self):
        for name, manifests in self.each():
            parts = deployments(manifests)
            self.assertEqual(sorted(parts), sorted(ROLES))
            for role, part in parts.items():
                self.where = f"{name}, {role}"
                yield name, role, *part

    def each_pod(self):
        for name, manifests in self.each():
            for role, part in pods(manifests).items():
                self.assertIn(role, PODS)
                self.where = f"{name}, {role}"
                yield name, role, *part


class ProbesTest(EveryVariant):
    def test_they_are_grpc_where_the_kubelet_can_speak_it(self):
        for _, _, _, _, container in self.each_part():
            secure = "tls-cert" in flags_of(container["args"])
            ports = {port["name"]: port["containerPort"] for port in container["ports"]}
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                service = "readiness" if probe == "readinessProbe" else "liveness"
                if secure:
                    page = {"readiness": "/readyz", "liveness": "/healthz"}[service]
                    self.assertEqual(container[probe]["httpGet"], {"path": page, "port": "http"})
                else:
                    self.assertEqual(container[probe]["grpc"], {"port": ports["grpc"], "service": service})

    def test_liveness_is_the_name_that_no_peer_and_no_drain_changes(self):
        header = (ROOT / "rpc/server.h").read_text(encoding="utf-8")
        self.assertIn('kLivenessService[] = "liveness"', header)
        self.assertIn('kReadinessService[] = "readiness"', header)

    def test_startup_waits_for_the_model(self):
        for name, role, _, _, container in self.each_part():
            if role != "router":
                probe = container["startupProbe"]
                self.assertGreaterEqual(probe["failureThreshold"] * probe["periodSeconds"],
                                        values_of(name)["model"]["loadSeconds"])

    def test_liveness_forgives_a_busy_minute(self):
        for _, _, _, _, container in self.each_part():
            probe = container["livenessProbe"]
            self.assertGreaterEqual(probe["failureThreshold"] * probe["periodSeconds"], 60)


class DrainTest(EveryVariant):
    def test_the_grace_period_covers_pre_stop_and_the_drain(self):
        for _, _, _, pod, container in self.each_part():
            sleep = container["lifecycle"]["preStop"]["sleep"]["seconds"]
            drain = int(flags_of(container["args"])["drain-timeout-s"])
            self.assertGreaterEqual(sleep, 1)
            self.assertGreaterEqual(pod["terminationGracePeriodSeconds"], sleep + drain + EXIT_SECONDS)

    def test_each_part_drains_as_long_as_its_longest_work(self):
        for name, role, _, _, container in self.each_part():
            bounds, flags = values_of(name)["bounds"], flags_of(container["args"])
            drain = int(flags["drain-timeout-s"])
            if role == "router":
                self.assertGreaterEqual(drain, int(flags["default-timeout-s"]))
            elif role == "prefill":
                self.assertGreaterEqual(
                    drain, int(flags["max-queue-s"]) + bounds["prefillSeconds"] + bounds["transferSeconds"])
            else:
                longest = min(bounds["generationSeconds"], bounds["requestSeconds"])
                others = least_replicas(RENDERED[name], role) > 1
                if others and bounds["migrateAfterSeconds"] > 0:
                    self.assertGreaterEqual(drain, min(bounds["migrateAfterSeconds"], longest))
                else:
                    self.assertGreaterEqual(drain, longest)

    def test_a_single_decode_worker_waits_for_its_longest_generation(self):
        manifests = render(*VARIANTS["cpu-demo"], "--set", "decode.replicas=1")
        flags = flags_of(deployments(manifests)["decode"][2]["args"])
        self.assertEqual(int(flags["drain-timeout-s"]), 600)

    def test_gpu_workers_are_replaced_in_place_and_others_beside(self):
        for name, role, deployment, _, _ in self.each_part():
            rolling = deployment["spec"]["strategy"]["rollingUpdate"]
            in_place = role != "router" and values_of(name)["device"] == "cuda"
            self.assertEqual(rolling, {"maxSurge": 0 if in_place else 1, "maxUnavailable": 1 if in_place else 0})


class DisruptionTest(EveryVariant):
    def test_budgets_let_one_pod_go_and_keep_the_others(self):
        for name, manifests in self.each():
            budgets = {role_of(budget): budget["spec"] for budget in of_kind(manifests, "PodDisruptionBudget").values()}
            for role in ROLES:
                replicas = least_replicas(manifests, role)
                if replicas < 2 or name == "bare":
                    self.assertNotIn(role, budgets)  # it would stop every node drain, or protect nothing
                    continue
                self.assertNotIn("minAvailable", budgets[role])
                self.assertTrue(1 <= budgets[role]["maxUnavailable"] < replicas, budgets[role])
                self.assertEqual(budgets[role]["selector"],
                                 deployments(manifests)[role][0]["spec"]["selector"])

    def test_a_part_that_scales_has_no_fixed_number(self):
        for _, manifests in self.each():
            scaled = {role_of(manifest) for kind in ("HorizontalPodAutoscaler", "ScaledObject")
                      for manifest in of_kind(manifests, kind).values()}
            for role, (deployment, _, _) in deployments(manifests).items():
                self.assertEqual("replicas" in deployment["spec"], role not in scaled)

    def test_workers_scale_on_waiting_work_and_reserved_memory(self):
        keda = {role_of(item): item["spec"]["triggers"][0]["metadata"]["query"]
                for item in of_kind(RENDERED["h100-8b"], "ScaledObject").values()}
        hpa = {role_of(item): item["spec"]["metrics"][0]
               for item in of_kind(RENDERED["hpa"], "HorizontalPodAutoscaler").values()}
        self.assertIn("winnow_queued_prefill_seconds", keda["prefill"])
        self.assertIn("winnow_kv_blocks", keda["decode"])
        self.assertEqual(hpa["prefill"]["pods"]["metric"]["name"], "winnow_queued_prefill_seconds")
        self.assertEqual(hpa["decode"]["pods"]["target"]["averageValue"], "750m")
        self.assertEqual(hpa["router"]["resource"]["name"], "cpu")
        self.assertNotIn("ttft", str(keda) + str(hpa))


class SecurityTest(EveryVariant):
    def test_pods_are_nobody_and_cannot_become_anybody(self):
        for _, _, _, pod, container in self.each_pod():
            self.assertEqual({key: pod["securityContext"][key] for key in ("runAsNonRoot", "runAsUser", "runAsGroup")},
                             {"runAsNonRoot": True, "runAsUser": 65532, "runAsGroup": 65532})
            self.assertEqual(pod["securityContext"]["seccompProfile"], {"type": "RuntimeDefault"})
            self.assertEqual(container["securityContext"],
                             {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                              "capabilities": {"drop": ["ALL"]}})
            self.assertIs(pod["automountServiceAccountToken"], False)
            for host in ("hostNetwork", "hostPID", "hostIPC"):
                self.assertNotIn(host, pod)

    def test_the_user_is_the_image_s(self):
        self.assertIn("USER 65532:65532", (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8"))

    def test_resources_are_bounded_and_gpus_are_the_ranks(self):
        for name, role, _, _, container in self.each_pod():
            resources = container["resources"]
            self.assertIn("memory", resources["limits"])
            self.assertLessEqual({"cpu", "memory"}, set(resources["requests"]))
            gpus = resources["limits"].get("nvidia.com/gpu", 0)
            wanted = values_of(name)["device"] == "cuda" and role in ("prefill", "decode")
            self.assertEqual(gpus, int(flags_of(container["args"])["tp"]) if wanted else 0)

    def test_images_have_a_version(self):
        for _, _, _, _, container in self.each_pod():
            self.assertRegex(container["image"], r":[\w.-]*\d[\w.-]*$")

    def test_nothing_is_plain_text_where_tls_is_on(self):
        for _, role, _, pod, container in self.each_part():
            flags = flags_of(container["args"])
            self.assertNotEqual("allow-plaintext" in flags, "tls-cert" in flags)
            if "tls-cert" in flags:
                self.assertLessEqual({"tls-key", "tls-ca", "tls-server-name"}, set(flags))
                self.assertIn("tls", [volume["name"] for volume in pod["volumes"]])
                if role != "router":
                    self.assertNotEqual(flags.get("tls-client-certs"), "false")

    def test_cert_manager_s_certificate_carries_the_name_that_peers_ask_for(self):
        certificate, = of_kind(RENDERED["everything"], "Certificate").values()
        names = certificate["spec"]["dnsNames"]
        for _, _, container in deployments(RENDERED["everything"]).values():
            self.assertIn(flags_of(container["args"])["tls-server-name"], names)
        self.assertIn("llm.example.org", names)
        for _, pod, _ in deployments(RENDERED["everything"]).values():
            secrets = [volume["secret"]["secretName"] for volume in pod["volumes"] if volume["name"] == "tls"]
            self.assertEqual(secrets, [certificate["spec"]["secretName"]])

    def test_client_tokens_come_as_a_folder_so_that_they_can_change(self):
        _, pod, container = deployments(RENDERED["everything"])["router"]
        file = flags_of(container["args"])["client-tokens"]
        mount, = [mount for mount in container["volumeMounts"] if mount["name"] == "clients"]
        self.assertEqual(file, mount["mountPath"] + "/clients.json")
        self.assertNotIn("subPath", mount)
        self.assertIn({"name": "clients", "secret": {"secretName": "clients", "defaultMode": 0o440}}, pod["volumes"])


class NetworkTest(EveryVariant):
    def test_the_router_finds_workers_by_headless_services(self):
        for _, manifests in self.each():
            services, parts = of_kind(manifests, "Service"), deployments(manifests)
            for role in ("prefill", "decode"):
                target = flags_of(parts["router"][2]["args"])[f"{role}-workers"]
                name, port = re.fullmatch(r"dns:///([\w-]+):(\d+)", target).groups()
                spec = services[name]["spec"]
                self.assertEqual(spec["clusterIP"], "None")
                self.assertIn(int(port), [entry["port"] for entry in spec["ports"]])
                labels = parts[role][0]["spec"]["template"]["metadata"]["labels"]
                self.assertLessEqual(spec["selector"].items(), labels.items())
                self.assertEqual(flags_of(parts[role][2]["args"])["listen"], f"0.0.0.0:{port}")

    def test_policies_allow_what_a_request_needs_and_no_more(self):
        calls = {("router", "prefill"), ("router", "decode"), ("prefill", "decode")}
        for name, manifests in self.each():
            policies = {role_of(policy): policy["spec"] for policy in of_kind(manifests, "NetworkPolicy").values()}
            if name == "bare":
                self.assertEqual(policies, {})
                continue
            labels = {role: part[0]["spec"]["template"]["metadata"]["labels"] for role, part in deployments(manifests).items()}
            ports = {role: int(flags_of(part[2]["args"])["listen"].rpartition(":")[2])
                     for role, part in deployments(manifests).items()}

            def allows(rules, side, port, role, labels=labels):
                return any(rule["ports"] == [{"port": port}] and
                           any(peer["podSelector"]["matchLabels"].items() <= labels[role].items() for peer in rule[side])
                           for rule in rules if side in rule and all("podSelector" in peer for peer in rule[side]))

            for caller in ROLES:
                for called in ("prefill", "decode"):
                    wanted = (caller, called) in calls
                    self.assertEqual(allows(policies[caller]["egress"], "to", ports[called], called), wanted)
                    self.assertEqual(allows(policies[called]["ingress"], "from", ports[called], caller), wanted)
            for policy in policies.values():
                self.assertEqual(policy["policyTypes"], ["Ingress", "Egress"])
                self.assertIn(53, [entry["port"] for rule in policy["egress"] for entry in rule["ports"]])


class FlagsTest(EveryVariant):
    def test_programs_know_every_flag(self):
        for _, _, _, _, container in self.each_pod():
            self.assertEqual(unknown_flags(container["command"], container["args"]), set())


class CanaryTest(unittest.TestCase):
    def test_it_asks_the_router_as_a_client_would(self):
        manifests = RENDERED["everything"]
        _, pod, container = pods(manifests)["canary"]
        flags = flags_of(container["args"])
        host, port = flags["address"].split(":")
        self.assertIn(host.split(".")[0], of_kind(manifests, "Service"))
        self.assertEqual(port, flags_of(pods(manifests)["router"][2]["args"])["listen"].rpartition(":")[2])
        certificate, = of_kind(manifests, "Certificate").values()
        self.assertIn(host, certificate["spec"]["dnsNames"])
        self.assertEqual(flags["token-file"], "/etc/winnow/token/token")
        self.assertEqual({volume["name"] for volume in pod["volumes"]}, {"question", "tls", "token"})

    def test_the_router_lets_it_in(self):
        rules = of_kind(RENDERED["everything"], "NetworkPolicy")["winnow-router"]["spec"]["ingress"]
        labels = pods(RENDERED["everything"])["canary"][0]["spec"]["template"]["metadata"]["labels"].items()
        self.assertTrue(any(peer["podSelector"]["matchLabels"].items() <= labels for peer in rules[0]["from"]))


class ValuesTest(unittest.TestCase):
    REFUSED = {
        "prefill.replicas=two": "/prefill/replicas.*got string, want integer",
        "prefill.replica=2": "/prefill.*additional properties 'replica' not allowed",
        "decode.replicas=0": "/decode/replicas.*minimum: got 0, want 1",
        "image.tag=latest": "/image/tag.*'latest' does not match",
        "device=gpu": "/device.*must be one of 'cuda', 'cpu'",
        "model.type=s3": "/model/type.*must be one of 'pvc'",
        "model.mountPath=models": "/model/mountPath.*'models' does not match",
        "router.port=80": "/router/port.*minimum: got 80, want 1,024",
        "prefill.tensorParallel=0": "/prefill/tensorParallel.*minimum",
        "bounds.endpointSeconds=0": "/bounds/endpointSeconds.*minimum",
        "router.resources.limits.memory=null": "/router/resources/limits.*missing property 'memory'",
        "monitoring.scrape=yes please": "/monitoring/scrape.*must be one of",
        "logLevel=loud": "/logLevel.*must be one of",
        "podDisruptionBudget.minAvailable=0": "additional properties 'minAvailable' not allowed",
        "router.autoscaling.minReplicas=9": "router.autoscaling: minReplicas 9 is above maxReplicas 8",
        "model.type=pvc": "model.pvc.claimName: name the claim",
        "model.type=hostPath": "model.hostPath.path: name the folder",
        "model.type=image": "model.image.reference: name the image",
        "tls.enabled=true": "tls: name the secret",
        "prefill.autoscaling.kind=keda": "autoscaling.prometheusAddress: KEDA needs",
    }

    def test_what_cannot_be_is_refused_in_words(self):
        for setting, words in self.REFUSED.items():
            with self.subTest(setting=setting):
                with self.assertRaises(HelmError) as caught:
                    render(*VARIANTS["cpu-demo"], "--set", setting)
                self.assertRegex(str(caught.exception), words)

    def test_lint_has_nothing_to_say(self):
        for name, arguments in VARIANTS.items():
            with self.subTest(variant=name):
                self.assertIn("0 chart(s) failed", helm("lint", "--strict", str(CHART), *arguments))

    def test_every_value_is_used(self):
        templates = "".join(file.read_text(encoding="utf-8") for file in (CHART / "templates").iterdir())
        defaults = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))

        def leaves(values, way=()):
            for key, value in values.items():
                if isinstance(value, dict) and value and "Labels" not in key and key not in ("requests", "limits"):
                    yield from leaves(value, (*way, key))
                else:
                    yield (*way, key)

        for way in leaves(defaults):
            self.assertIn(way[-1], templates, ".".join(way))

    def test_the_values_are_few(self):
        lines = (CHART / "values.yaml").read_text(encoding="utf-8").splitlines()
        self.assertLess(len(lines), 250)

    def test_the_examples_are_those_of_the_documentation(self):
        self.assertEqual([file.stem for file in VALUES_FILES], ["cpu-demo", "h100-70b-tp8", "h100-8b"])


class FilesTest(unittest.TestCase):
    """Dashboards and alerts, which lie outside the chart and are linked into it."""

    MONITORING = ["--set", "monitoring.alerts=true,monitoring.dashboards=true,monitoring.scrape=PodMonitor"]

    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

    def package(self, chart=CHART):
        helm("package", str(chart), "--destination", str(self.folder))
        archive, = self.folder.glob("*.tgz")
        shutil.unpack_archive(archive, self.folder / "unpacked")
        return archive, self.folder / "unpacked/winnow"

    def assert_holds_copies(self, root, manifests):
        dashboards = {name: text for config in of_kind(manifests, "ConfigMap").values()
                      if "grafana_dashboard" in config["metadata"]["labels"] for name, text in config["data"].items()}
        files = {file.name: file.read_text(encoding="utf-8").rstrip("\n") for file in (root / "deploy/grafana").glob("*.json")}
        self.assertEqual(dashboards, files)
        rules = [rule["spec"] for rule in of_kind(manifests, "PrometheusRule").values()]
        alerts = root / "deploy/prometheus/alerts.yaml"
        self.assertEqual(rules, [yaml.safe_load(alerts.read_text(encoding="utf-8"))] if alerts.exists() else [])

    def test_the_chart_holds_the_dashboards_and_alerts_of_this_repository(self):
        self.assert_holds_copies(ROOT, render(*VARIANTS["cpu-demo"], *self.MONITORING))

    def test_a_packaged_chart_needs_nothing_else(self):
        archive, chart = self.package()
        self.assertEqual([str(path) for path in chart.rglob("*") if path.is_symlink()], [])
        self.assertFalse((chart / "files/grafana/provisioning").exists())
        for name in VARIANTS:
            arguments = [argument.replace(str(CHART), str(chart)) for argument in VARIANTS[name]]
            self.assertEqual(render(*arguments, chart=archive), RENDERED[name], name)
        self.assert_holds_copies(ROOT, render(*VARIANTS["cpu-demo"], *self.MONITORING, chart=archive))

    def test_new_dashboards_and_alerts_come_in_by_themselves(self):
        root = self.folder / "tree"
        shutil.copytree(ROOT / "deploy", root / "deploy", symlinks=True)
        board = '{"title": "{{pod}} {{ .Values }}",\n "rows": []}\n'
        (root / "deploy/grafana/some_board.json").write_text(board, encoding="utf-8")
        (root / "deploy/prometheus/alerts.yaml").write_text(
            "groups:\n  - name: g\n    rules:\n      - {alert: A, expr: up == 0, annotations: {s: '{{ $value }}'}}\n",
            encoding="utf-8")
        chart = root / "deploy/helm/winnow"
        manifests = render(*VARIANTS["cpu-demo"], *self.MONITORING, chart=chart)
        self.assert_holds_copies(root, manifests)
        self.assertIn("winnow-dashboard-some-board", of_kind(manifests, "ConfigMap"))
        archive, _ = self.package(chart)
        self.assert_holds_copies(root, render(*VARIANTS["cpu-demo"], *self.MONITORING, chart=archive))

    def test_every_pod_is_scraped(self):
        for variant, kind, field in (("h100-8b", "PodMonitor", "podMetricsEndpoints"),
                                     ("h100-70b-tp8", "ServiceMonitor", "endpoints")):
            monitor, = of_kind(RENDERED[variant], kind).values()
            selector = monitor["spec"]["selector"]["matchLabels"].items()
            self.assertEqual([endpoint["port"] for endpoint in monitor["spec"][field]], ["http"])
            self.assertEqual(dict(selector)[monitor["spec"]["jobLabel"]], "winnow")  # the job that alerts watch
            for deployment, _, container in pods(RENDERED[variant]).values():
                self.assertLessEqual(selector, deployment["spec"]["template"]["metadata"]["labels"].items())
                self.assertIn("http", [port["name"] for port in container["ports"]])
            for service in of_kind(RENDERED[variant], "Service").values():
                self.assertLessEqual(selector, service["metadata"]["labels"].items())
                self.assertIn("http", [port["name"] for port in service["spec"]["ports"]])

    def notes(self, variant, *arguments):
        root = self.folder / "notes"
        shutil.copytree(CHART, root, ignore=lambda *_: ["files"], dirs_exist_ok=True)
        # helm shows notes only when it talks to a cluster; a template that includes them is rendered without one.
        notes = (root / "templates/NOTES.txt").read_text(encoding="utf-8")
        (root / "templates/notes.yaml").write_text(
            '{{ define "notes" }}' + notes + '{{ end }}notes: |\n  {{- include "notes" . | nindent 2 }}\n', encoding="utf-8")
        return helm("template", "w", str(root), "--namespace", "serving", *VARIANTS[variant], *arguments, "--show-only",
                    "templates/notes.yaml")

    def test_notes_say_what_to_do_next(self):
        text = self.notes("cpu-demo")
        for words in ("rollout status deployment/w-winnow-prefill", "winnow generate --address", "plain text",
                      "there is a single router pod"):
            self.assertIn(words, text)
        self.assertNotIn("there is a single decode pod", text)

    def test_notes_ask_as_the_router_wants_to_be_asked(self):
        def asked(*arguments):
            command = re.search(r"winnow generate (.*) --prompt", self.notes(*arguments))[1]
            return dict(re.findall(r"--(\S+) (\S+)", command))

        plain, tls = {"address": "127.0.0.1:50050"}, {"tls-ca": "ca.crt", "tls-server-name": "w-winnow-router.serving.svc"}
        self.assertEqual(asked("cpu-demo"), plain)
        self.assertEqual(asked("h100-8b"), {**plain, **tls, "tls-cert": "client.crt", "tls-key": "client.key"})
        self.assertEqual(asked("h100-70b-tp8"), {**plain, **tls, "token-file": "token"})
        self.assertIn("get secret w-winnow-tls -o jsonpath='{.data.ca\\.crt}'", self.notes("h100-8b"))


if __name__ == "__main__":
    unittest.main()
