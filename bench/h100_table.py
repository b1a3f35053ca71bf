#!/usr/bin/env python3
"""Measures Winnow's prefill and its peers in one go on one GPU and writes bench/results/h100.json.

    bench/h100_table.py [--bench build/cuda-release/bin/cuda_prefill_bench] [--out FILE] [--tokens …]
                        [--long 131072]

Winnow runs first and last and the peers between, so that a machine that slows down shows: the mean
of Winnow's two runs is kept, both are in "dense_ms_runs". The peers do not run at the long size.
attention_tflops is what the dense runs' attention reached, of causal attention's FLOP. Needs torch and
transformers for the peers.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys

LAYERS, HEADS, HEAD_DIM = 32, 32, 128  # of bench/configs/llama-3.1-8b
ROOT = pathlib.Path(__file__).resolve().parents[1]


def run(command):
    print("$", *command, file=sys.stderr, flush=True)
    output = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    return json.loads(output.strip().splitlines()[-1])


def attention_tflops(op_ms):
    """{N: …} of the layers that compute all rows: all but the last."""
    return {n: round((LAYERS - 1) * 2 * int(n)**2 * HEADS * HEAD_DIM / ops["attention"] * 1e-9, 1)
            for n, ops in op_ms.items()}


def mean_of(first, second):
    if isinstance(first, dict):
        return {key: mean_of(first[key], second[key]) for key in first}
    return round(statistics.mean([first, second]), 2)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", default=str(ROOT / "build/cuda-release/bin/cuda_prefill_bench"))
    parser.add_argument("--out", default=str(ROOT / "bench/results/h100.json"))
    parser.add_argument("--tokens", default="2048,8192,32768")
    parser.add_argument("--long", default="131072", help="a size for Winnow alone; 0: none")
    args = parser.parse_args()
    winnow = [args.bench, "--config", str(ROOT / "bench/configs/llama-3.1-8b"),
              "--tokens", args.tokens]
    before = run(winnow)
    peers = run([sys.executable, str(ROOT / "bench/peers/torch_prefill.py"),
                 "--tokens", args.tokens])
    after = run(winnow)
    if args.long != "0":
        long = run([*winnow[:3], "--tokens", args.long, "--repeats", "3"])
        for name in ("dense_ms", "dense_untrimmed_ms", "shipping_ms", "score_share"):
            before[name].update(long[name])
            after[name].update(long[name])
        for keep, times in long["claa_ms"].items():
            before["claa_ms"][keep].update(times)
            after["claa_ms"][keep].update(times)
        for policy, times in long["op_ms"].items():
            after["op_ms"][policy].update(times)
        after["stage_ms"].update(long["stage_ms"])
        after["stream_drains"] = max(after["stream_drains"], long["stream_drains"])
    dense = mean_of(before["dense_ms"], after["dense_ms"])
    claa = mean_of(before["claa_ms"], after["claa_ms"])
    table = {
        "device": before["device"], "commit": before["commit"], "dense_ms": dense, "claa_ms": claa,
        "dense_ms_runs": [before["dense_ms"], after["dense_ms"]],
        "claa_speedup": {keep: {n: round(dense[n] / ms, 3) for n, ms in row.items()}
                         for keep, row in claa.items()},
        **{key: peers[key] for key in ("floor_ms", "torch_fused_ms", "hf_ms", "cudnn_tflops",
                                       "gemm_tflops")},
        "floor_share": {n: round(ms / dense[n], 3) for n, ms in peers["floor_ms"].items()},
        "dense_untrimmed_ms": mean_of(before["dense_untrimmed_ms"], after["dense_untrimmed_ms"]),
        "shipping_ms": mean_of(before["shipping_ms"], after["shipping_ms"]),
        "score_share": {n: round((before["score_share"][n] + share) / 2, 5)
                        for n, share in after["score_share"].items()},
        "attention_tflops": attention_tflops(after["op_ms"]["dense"]),
        "op_ms": after["op_ms"], "stage_ms": after["stage_ms"],
        "stream_drains": max(before["stream_drains"], after["stream_drains"]),
    }
    path = pathlib.Path(args.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(table))


if __name__ == "__main__":
    main()
