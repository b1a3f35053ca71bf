"""The chart rendered by the real helm: what chart_test.py and manifests_test.py look at.

Environment: WINNOW_DEPLOY_NPM, the folder that npm_packages.py filled.
"""

import os
import pathlib
import subprocess

import system_python  # noqa: F401, I001  (before yaml)
import yaml
from dockerfile import ROOT

NPM = pathlib.Path(os.environ["WINNOW_DEPLOY_NPM"])
CHART = ROOT / "deploy/helm/winnow"
VALUES_FILES = sorted((CHART / "values").glob("*.yaml"))
ROLES = ("router", "prefill", "decode")
PODS = (*ROLES, "canary")

# One name for each way to install: the values files, and switches that none of them turns.
VARIANTS = {file.stem: ["-f", str(file)] for file in VALUES_FILES}
VARIANTS["defaults"] = ["--set", "model.pvc.claimName=models"]
VARIANTS["hpa"] = [
    "-f", str(CHART / "values/h100-8b.yaml"), "--set", "prefill.autoscaling.kind=hpa,decode.autoscaling.kind=hpa"]
VARIANTS["everything"] = [
    "-f", str(CHART / "values/h100-8b.yaml"), "--set",
    "model.type=image,model.image.reference=registry/llama:3.1,router.clientTokens.secretName=clients,"
    "tls.clientCertificates=false,tls.certManager.extraDnsNames={llm.example.org},priorityClassName=serving,"
    "image.pullSecrets[0].name=pull,podLabels.team=search,podAnnotations.a=b,bounds.migrateAfterSeconds=0,"
    "router.service.type=LoadBalancer,router.service.annotations.a=b,networkPolicy.clients[0].podSelector.matchLabels.a=b,"
    "canary.enabled=true,canary.token.secretName=canary-token,monitoring.labels.release=prometheus,"
    "monitoring.scrape=ServiceMonitor"]
VARIANTS["bare"] = [
    "-f", str(CHART / "values/cpu-demo.yaml"), "--set",
    "networkPolicy.enabled=false,podDisruptionBudget.enabled=false,topologySpread.keys=null"]


class HelmError(Exception):
    """helm failed; the text is what it said."""


def helm(*arguments):
    """What helm prints. Its caches lie with the packages, nothing of the user's is read."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(NPM), "HELM_CACHE_HOME": str(NPM / "helm-cache"),
                   "HELM_CONFIG_HOME": str(NPM / "helm-config"), "HELM_DATA_HOME": str(NPM / "helm-data"),
                   "KUBECONFIG": "/nonexistent"}
    child = subprocess.run([NPM / "bin/helm", *arguments], capture_output=True, text=True, env=environment, check=False,
                           timeout=120, stdin=subprocess.DEVNULL)
    if child.returncode != 0:
        raise HelmError(child.stdout + child.stderr)
    return child.stdout


def render(*arguments, chart=CHART):
    """The manifests, as objects."""
    text = helm("template", "winnow", str(chart), "--namespace", "serving", *arguments)
    return [manifest for manifest in yaml.safe_load_all(text) if manifest]


def of_kind(manifests, kind):
    return {manifest["metadata"]["name"]: manifest for manifest in manifests if manifest["kind"] == kind}


def role_of(manifest):
    return manifest["metadata"]["labels"].get("app.kubernetes.io/component")
