#!/usr/bin/env python3
"""Every manifest that the chart can make is what Kubernetes and the operators' types say: values are valid by the schemas of
kubernetes-models, and the TypeScript compiler finds no field that its type does not have. Environment: WINNOW_DEPLOY_NPM.
"""

import copy
import json
import os
import pathlib
import subprocess
import tempfile
import unittest

from helm import NPM, VARIANTS, render

HERE = pathlib.Path(__file__).resolve().parent
GROUPS = {"monitoring.coreos.com": "@kubernetes-models/prometheus-operator", "keda.sh": "@kubernetes-models/keda",
          "cert-manager.io": "@kubernetes-models/cert-manager"}
COMPILER = ["node", "node_modules/typescript/bin/tsc", "--noEmit", "--strict", "--skipLibCheck", "--target", "es2022",
            "--module", "nodenext", "--pretty", "false"]
MANIFESTS = [(name, manifest) for name, arguments in VARIANTS.items() for manifest in render(*arguments)]


def label(name, manifest):
    return f"{name}: {manifest['kind']} {manifest['metadata']['name']}"


def wrong_values(manifests):
    """What each is refused for by the schema of its kind, or None."""
    child = subprocess.run(["node", HERE / "validate_manifests.cjs", NPM], input=json.dumps(manifests), text=True,
                           capture_output=True, check=True, timeout=120)
    return json.loads(child.stdout)


def typescript(manifests):
    """A file in which each manifest is a constant of its type: unknown fields of such literals are errors."""
    lines = []
    for index, manifest in enumerate(manifests):
        version, kind = manifest["apiVersion"], manifest["kind"]
        package = GROUPS.get(version.split("/")[0], "kubernetes-models")
        lines += [f'import {{ I{kind} as Type{index} }} from "{package}/{version}/{kind}";',
                  f"export const manifest{index}: Type{index} = {json.dumps(manifest)};"]
    return "\n".join(lines) + "\n"


def wrong_fields(manifests):
    """The compiler's errors."""
    with tempfile.NamedTemporaryFile("w", suffix=".ts", dir=NPM, encoding="utf-8") as file:
        file.write(typescript(manifests))
        file.flush()
        child = subprocess.run([*COMPILER, os.path.basename(file.name)], cwd=NPM, capture_output=True, text=True, timeout=250,
                               check=False)
    assert (child.returncode == 0) == (child.stdout == ""), child.stdout + child.stderr
    return child.stdout.splitlines()


class ManifestsTest(unittest.TestCase):
    def test_every_value_is_valid(self):
        results = wrong_values([manifest for _, manifest in MANIFESTS])
        found = [f"{label(*entry)}: {wrong}" for entry, wrong in zip(MANIFESTS, results, strict=True) if wrong]
        self.assertEqual(found, [])
        kinds = {manifest["kind"] for _, manifest in MANIFESTS}
        print(f"{len(MANIFESTS)} manifests of {len(kinds)} kinds are valid: {', '.join(sorted(kinds))}", flush=True)

    def test_every_field_is_known(self):
        self.assertEqual(wrong_fields([manifest for _, manifest in MANIFESTS]), [])


class CheckersTest(unittest.TestCase):
    """The checkers find what is wrong."""

    def setUp(self):
        manifests = dict((manifest["kind"], manifest) for _, manifest in MANIFESTS)
        self.deployment = copy.deepcopy(manifests["Deployment"])
        self.scaled = copy.deepcopy(manifests["ScaledObject"])

    def test_wrong_types_and_unknown_kinds_are_found(self):
        self.deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = "long"
        self.scaled["spec"]["triggers"] = {}
        unknown = {"apiVersion": "apps/v1", "kind": "Deploy", "metadata": {"name": "x"}}
        results = wrong_values([self.deployment, self.scaled, unknown])
        self.assertIn("terminationGracePeriodSeconds", results[0])
        self.assertIn("triggers", results[1])
        self.assertIn("no Deploy", results[2])

    def test_unknown_fields_are_found_deep_in_a_pod(self):
        container = self.deployment["spec"]["template"]["spec"]["containers"][0]
        container["livenessProbe"]["grcp"] = {"port": 1}
        self.scaled["spec"]["minReplicas"] = 1
        errors = "\n".join(wrong_fields([self.deployment, self.scaled]))
        self.assertIn('"grcp"\' does not exist', errors)
        self.assertIn('"minReplicas"\' does not exist', errors)


if __name__ == "__main__":
    unittest.main()
