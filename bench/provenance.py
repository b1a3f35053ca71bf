"""What a result says of itself: the device and the commit that it was measured with."""

import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[1]


def first_line(*command):
    """Of its output; empty when there is no such program or it fails."""
    try:
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return ran.stdout.splitlines()[0].strip() if ran.returncode == 0 and ran.stdout else ""


def commit():
    """WINNOW_COMMIT, or the checkout's, with "-dirty" when files differ from it."""
    given = os.environ.get("WINNOW_COMMIT")
    described = first_line("git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")
    return given or described or "unknown"


def device(kind):
    """The GPU's name, or the processor's. `kind`: cpu, cuda or auto, as the workers take it."""
    gpu = "" if kind == "cpu" else first_line("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
    if gpu:
        return gpu
    for line in pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return f"{line.partition(':')[2].strip()}, {os.cpu_count()} threads"
    return "unknown"


def driver():
    """The GPUs' driver version; empty without one."""
    return first_line("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")


def provenance(kind):
    return {"device": device(kind), "commit": commit()}
