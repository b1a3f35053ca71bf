#!/usr/bin/env python3
"""The whole service on one GPU: router, prefill worker and decode worker as processes that share it.

    bench/gpu_service.py [--device cuda] [--documents 20] [--repeats 5] [--parts demo,8b]
                         [--streams 4] [--tp 1] [--out FILE]

demo: rates of exact answers with the demo model at 8K and 16K tokens, policy full and claa. 8b: the
Llama-3.1-8B shape with random weights, a prompt of 8,192 ids, once for every number of push streams:
medians of the time to the first token as the router sees it, of what of it is not the engine's, and of
the time to the second token. --tp: ranks, and GPUs, of either worker. Prints a JSON object.
WINNOW_BIN_DIR names the folder with the programs.
"""

import argparse
import json
import pathlib
import random
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
from load_service import ENGINE_STAGES  # noqa: E402
from local_cluster import LocalCluster, generate  # noqa: E402
from provenance import provenance  # noqa: E402

PROMPT = 8192
VOCAB = 128000


def demo(args):
    """{tokens: what tools/measure_accuracy prints}"""
    rates = {}
    with LocalCluster(device=args.device, prefill_tp=args.tp, decode_tp=args.tp) as cluster:
        for tokens in (8000, 16000):
            command = [sys.executable, ROOT / "tools/measure_accuracy", "--tokens", str(tokens),
                       "--documents", str(args.documents), "--address", cluster.address]
            output = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
            rates[tokens] = json.loads(output.strip().splitlines()[-1])
    return rates


def time_requests(address, selection, repeats):
    rng = random.Random(1)
    runs = []
    for _ in range(repeats + 1):
        ids = ",".join(str(rng.randrange(VOCAB)) for _ in range(PROMPT))
        runs.append(generate(address, token_ids=ids, max_tokens=2, ignore_eos=True, **selection))
    runs = runs[1:]  # the first warms up

    def median_ms(value):
        return round(statistics.median(value(run) for run in runs) * 1e3, 2)

    return {
        "ttft_ms": median_ms(lambda run: run["router_ttft_s"]),
        "not_engine_ms": median_ms(lambda run: run["router_ttft_s"] -
                                   sum(run["stages"][stage] for stage in ENGINE_STAGES)),
        "second_token_ms": median_ms(lambda run: run["total_s"]),
        "stages_ms": {stage: median_ms(lambda run, stage=stage: run["stages"][stage])
                      for stage in runs[0]["stages"]},
        "kept_tokens": runs[0]["kept_tokens"],
    }


def large(args):
    """{"N streams": {policy: medians}}"""
    results = {}
    for streams in args.streams.split(","):
        options = {"model": ROOT / "bench/configs/llama-3.1-8b", "tokenizer": ROOT / "models/demo",
                   "random_weights": True, "device": args.device, "max_model_len": 16384,
                   "kv_cache_mib": 8192, "streams_per_rank": streams, "timeout": 300,
                   "prefill_tp": args.tp, "decode_tp": args.tp}
        with LocalCluster(**options) as cluster:
            results[f"{streams} streams"] = {
                name: time_requests(cluster.address, selection, args.repeats)
                for name, selection in (("full", {"policy": "full"}),
                                        ("claa", {"policy": "claa", "keep_ratio": 0.1}))}
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu", "auto"))
    parser.add_argument("--documents", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--parts", default="demo,8b")
    parser.add_argument("--streams", default="4", help="push streams per rank, to try one after another")
    parser.add_argument("--tp", type=int, default=1)
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()
    parts = {"demo": demo, "8b": large}
    result = {**provenance(args.device), "tensor_parallel": args.tp,
              **{part: parts[part](args) for part in args.parts.split(",")}}
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
