#!/usr/bin/env python3
"""Measures prefill over several GPUs in one go and writes bench/results/tensor_parallel.json.

    bench/tensor_parallel_table.py [--models llama-3.1-8b,llama-3.1-70b] [--tp 1,2,4,8] [--tokens 8192,32768]
                                   [--keep 0.1] [--repeats 5] [--min-overlap-elements N] [--bench FILE] [--out FILE]

Random weights. Sizes that this machine has too few GPUs for, or whose weights do not fit, are listed under
"not_run" with the reason. Per model, dense and CLAA: "ms" {T: {N: median}}; "efficiency" (T0·time at T0) /
(T·time at T), T0 the smallest that ran; "allreduce_share": how long the queue waited for the layers' sums, for slower
ranks too; "score_allreduce_us" and its share of CLAA's time. --min-overlap-elements N: sums of at least N elements overlap
with compute, instead of what the engine chooses.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]


def run(args, model, size):
    """What the bench says, or (None, its last words)."""
    command = [args.bench, "--config", str(ROOT / "bench/configs" / model), "--tokens", args.tokens, "--keep", args.keep,
               "--repeats", str(args.repeats), "--tp", str(size), "--nodetails"]
    if args.min_overlap_elements:
        command += ["--min-overlap-elements", str(args.min_overlap_elements)]
    print("$", *command, file=sys.stderr, flush=True)
    child = subprocess.run(command, capture_output=True, text=True, check=False,
                           env={**os.environ, "NCCL_NVLS_ENABLE": "0"})
    sys.stderr.write(child.stderr)
    lines = (child.stdout if child.returncode == 0 else child.stderr).strip().splitlines() or ["no word"]
    return (json.loads(lines[-1]), "") if child.returncode == 0 else (None, lines[-1])


def table(results, keep):
    """{"dense": …, "claa": …, …} of one model's results by T."""
    ms = {"dense": {size: result["dense_ms"] for size, result in results.items()},
          "claa": {size: result["claa_ms"][keep] for size, result in results.items()}}
    reduced = {policy: {size: result["allreduce_ms"][name] for size, result in results.items() if "allreduce_ms" in result}
               for policy, name in (("dense", "dense"), ("claa", keep))}
    smallest = min(results)

    def each(rows, value):
        """{T: {N: value(T, N)}} for the T and N of `rows`"""
        return {size: {n: value(size, n) for n in row} for size, row in rows.items()}

    def of(policy):
        times, sums = ms[policy], reduced[policy]
        return {"ms": each(times, lambda size, n: round(times[size][n], 2)),
                "efficiency": each(times, lambda size, n: round(smallest * times[smallest][n] / (size * times[size][n]), 3)),
                "allreduce_share": each(sums, lambda size, n: round(sums[size][n]["sum"] / times[size][n], 4))}

    scores = reduced["claa"]
    return {"dense": of("dense"), "claa": of("claa"),
            "score_allreduce_us": each(scores, lambda size, n: round(scores[size][n]["max"] * 1e3, 1)),
            "score_allreduce_share": each(scores, lambda size, n: round(scores[size][n]["max"] / ms["claa"][size][n], 6))}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="llama-3.1-8b,llama-3.1-70b")
    parser.add_argument("--tp", default="1,2,4,8")
    parser.add_argument("--tokens", default="8192,32768")
    parser.add_argument("--keep", default="0.1")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--min-overlap-elements", type=int)
    parser.add_argument("--bench", default=str(ROOT / "build/cuda-release/bin/cuda_prefill_bench"))
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "bench/results/tensor_parallel.json")
    args = parser.parse_args()
    made, not_run, heads = {}, {}, {}
    for model in args.models.split(","):
        results = {}
        for size in map(int, args.tp.split(",")):
            result, reason = run(args, model, size)
            if result is None:
                not_run[f"{model}, T = {size}"] = reason
                continue
            results[size] = result
            heads = {"device": result["device"], "commit": result["commit"]}
        if results:
            made[model] = table(results, args.keep)
    if args.min_overlap_elements:
        heads["min_overlap_elements"] = args.min_overlap_elements
    text = json.dumps({**heads, "keep_ratio": float(args.keep), **made, "not_run": not_run}, indent=1)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
