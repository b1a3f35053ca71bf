// Reads a JSON array of manifests from standard input and checks each against the schema of its kind, in kubernetes-models.
//
//   node validate_manifests.cjs NPM_FOLDER < manifests.json
//
// Prints a JSON array: for each manifest what is wrong with it, or null. A kind that no package knows is wrong.
const { createRequire } = require("node:module");
const { readFileSync } = require("node:fs");
const packages = createRequire(`${process.argv[2]}/package.json`);

const GROUPS = {
  "monitoring.coreos.com": "@kubernetes-models/prometheus-operator",
  "keda.sh": "@kubernetes-models/keda",
  "cert-manager.io": "@kubernetes-models/cert-manager",
};

function modelOf({ apiVersion, kind }) {
  const group = apiVersion.includes("/") ? apiVersion.split("/")[0] : "";
  return packages(`${GROUPS[group] ?? "kubernetes-models"}/${apiVersion}`)[kind];
}

function check(manifest) {
  try {
    const Model = modelOf(manifest);
    if (Model === undefined) return `${manifest.apiVersion} has no ${manifest.kind}`;
    new Model(manifest).validate();
    return null;
  } catch (error) {
    return String(error.message);
  }
}

console.log(JSON.stringify(JSON.parse(readFileSync(0, "utf8")).map(check)));
