#!/usr/bin/env python3
"""Fetches the packages of packages.txt with npm and checks their integrity; what is there stays.

    packages.py FOLDER

Each lies in FOLDER/NAME afterwards, a "/" in its name as "+". What node-llama-cpp carries as a git bundle of
llama.cpp lies in FOLDER/llama.cpp: golden token files, chat templates, and Llama 2's vocabulary, made into a
tokenizer.json.
"""

import base64
import hashlib
import json
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile

from sentencepiece_file import tokenizer_json

HERE = pathlib.Path(__file__).resolve().parent
LLAMA_CPP_FILES = ["models/*.inp", "models/*.out", "models/ggml-vocab-llama-spm.gguf", "models/templates/*.jinja"]


def wanted():
    for line in (HERE / "packages.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            yield line.split()


def package_folder(root, name):
    return pathlib.Path(root) / name.replace("/", "+")


def fetch(root, name, version, integrity):
    """Unpacks a package into `root`. The folder appears whole or not at all."""
    folder = package_folder(root, name)
    if (folder / ".complete").exists() and (folder / ".complete").read_text() == integrity:
        return
    print(f"{name} {version}", flush=True)
    with tempfile.TemporaryDirectory(dir=root) as temporary:
        subprocess.run(["npm", "pack", "--silent", f"{name}@{version}", "--pack-destination", temporary],
                       check=True, stdout=subprocess.DEVNULL, timeout=300)
        archive, = pathlib.Path(temporary).glob("*.tgz")
        digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if digest != integrity:
            raise SystemExit(f"{name} {version}: expected sha512 {integrity}, got {digest}")
        with tarfile.open(archive) as tar:
            tar.extractall(temporary, filter="data") if hasattr(tarfile, "data_filter") else tar.extractall(temporary)
        shutil.rmtree(folder, ignore_errors=True)
        (pathlib.Path(temporary) / "package").rename(folder)
    (folder / ".complete").write_text(integrity)


def unpack_llama_cpp(root):
    folder = pathlib.Path(root) / "llama.cpp"
    bundle = package_folder(root, "node-llama-cpp") / "llama" / "gitRelease.bundle"
    if (folder / ".complete").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()

    def git(*arguments):
        subprocess.run(["git", "-C", str(folder), *arguments], check=True, stdout=subprocess.DEVNULL)

    git("init", "--quiet")
    git("fetch", "--quiet", str(bundle.resolve()), "HEAD")
    git("checkout", "--quiet", "FETCH_HEAD", "--", *LLAMA_CPP_FILES)
    llama2 = tokenizer_json((folder / "models/ggml-vocab-llama-spm.gguf").read_bytes())
    (folder / "llama2").mkdir()
    (folder / "llama2/tokenizer.json").write_text(json.dumps(llama2))
    (folder / ".complete").write_text("")


def main():
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    for program in ("npm", "node", "git"):
        if shutil.which(program) is None:
            raise SystemExit(f"needs {program}; scripts/setup test installs it")
    root = pathlib.Path(sys.argv[1])
    root.mkdir(parents=True, exist_ok=True)
    for name, version, integrity in wanted():
        fetch(root, name, version, integrity)
    unpack_llama_cpp(root)


if __name__ == "__main__":
    main()
