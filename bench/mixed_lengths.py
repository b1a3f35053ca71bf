#!/usr/bin/env python3
"""Short prompts among long ones, through the whole service: what the short ones wait for.

    bench/mixed_lengths.py [--device auto] [--short 128] [--long 16384] [--keep-ratio 0.1] [--busy 0.5]
                           [--requests 200] [--chunk-tokens N] [--out FILE]

One prefill and one decode worker with the demo model. First each length alone, and the long prompt cut by one
chunk, which tells how long its last chunk takes; then nine short prompts to one long one, as a Poisson process that
keeps the prefill worker busy for about --busy of the time. Prints a JSON object: times to the first token of the
short ones, beside the bound, one chunk's time and their own. WINNOW_BIN_DIR names the folder with the programs.
"""

import argparse
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
from local_cluster import BIN, LocalCluster  # noqa: E402
from provenance import provenance  # noqa: E402

LONG_SHARE = 0.1
REPEATS = 5


def load(cluster, args, prompt_tokens, rate, requests):
    command = [BIN / "winnow", "load", "--address", cluster.address, "--json", "--rate", f"{rate:.4f}",
               "--requests", str(requests), "--prompt-tokens", prompt_tokens, "--keep-ratio", str(args.keep_ratio),
               "--max-tokens", "2", "--seed", "7"]
    report = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout)
    if report["errors"]:
        raise SystemExit(f"requests failed: {report['errors']}")
    return report


def alone_ms(cluster, args, tokens):
    """The quickest of a few, one after the other."""
    return min(load(cluster, args, str(tokens), 1000, 1)["ttft_ms"]["p50"] for _ in range(REPEATS))


def measure(args):
    with LocalCluster(device=args.device, chunk_tokens=args.chunk_tokens) as cluster:
        short, long_one = alone_ms(cluster, args, args.short), alone_ms(cluster, args, args.long)
        chunk = long_one - alone_ms(cluster, args, args.long - args.chunk_tokens)
        if chunk <= 0:
            raise SystemExit(f"{args.long} tokens were quicker than fewer: this machine is too busy to measure anything")
        mean_ms = (1 - LONG_SHARE) * short + LONG_SHARE * long_one
        rate = args.busy * 1e3 / mean_ms
        print(f"alone: {short:.0f} ms and {long_one:.0f} ms; asking {rate:.2f} times a second", file=sys.stderr)
        report = load(cluster, args, f"{args.short}:{1 - LONG_SHARE},{args.long}:{LONG_SHARE}", rate, args.requests)
    by_length = report["ttft_ms_by_prompt_tokens"]
    return {"short_tokens": args.short, "long_tokens": args.long, "keep_ratio": args.keep_ratio,
            "chunk_tokens": args.chunk_tokens, "rate": rate, "busy": args.busy,
            "short_alone_ms": short, "long_alone_ms": long_one, "last_chunk_ms": chunk,
            "bound_ms": chunk + short, "short_ttft_ms": by_length[str(args.short)],
            "long_ttft_ms": by_length[str(args.long)]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--short", type=int, default=128)
    parser.add_argument("--long", type=int, default=16384)
    parser.add_argument("--keep-ratio", type=float, default=0.1)
    parser.add_argument("--busy", type=float, default=0.5)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--chunk-tokens", type=int, default=1024)
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()
    text = json.dumps({**provenance(args.device), **measure(args)}, indent=1)
    print(text)
    if args.out:
        args.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
