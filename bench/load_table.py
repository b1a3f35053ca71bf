#!/usr/bin/env python3
"""Measures the whole service under load against its engine alone, in one run on one machine.

    bench/load_table.py [--out FILE] [--only engine,alone,…] [--budget-s 570] [--tp 1] [--device cuda]

Starts router, prefill worker and decode worker on loopback, with the Llama-3.1-8B shape and random weights in
bf16, and asks them with `winnow load`: random token ids, no two prompts with a common beginning. Parts, each with a
cluster of its own, so that its first load is the first after readiness:

  engine         cuda_prefill_bench alone, with all that the other parts ask for: they are held against it
  alone          one request at a time: the first and the later ones of every length and keep ratio
  burst-MEDIUM-full, burst-MEDIUM-claa   16 prompts at once, bursts after one another with pauses between; the last
                                         asks for one token each, so that no KV is handed over and nothing decoded
  burst-SHORT-full, burst-SHORT-claa     32 prompts at once
  poisson-full, poisson-claa             Poisson arrivals at shares of the engine's capacity: short, medium, mixed

Times are the client's, from when a request was due. Ideal: alone, the engine's time; of a burst, first come, first
served; of Poisson arrivals, the same arrivals with the least remaining work first; with the engine's times and nothing
lost in between. gap: token 0 to token 1. queue: what a request waited, for its reservation, too, while it was in no
step; steps: how long the steps took that it was in, with those that shared them. GB/s: bytes of the handoffs over their
times from the first chunk sent to the commit's answer, in which the prefill goes on.
Writes JSON after every row and prints a table last. A part that fails is told in "failed" and the others go on. With
--budget-s, a load that would probably end later is left out and told in "left_out". WINNOW_BIN_DIR names the folder with
the programs. Without a GPU (--device cpu --model demo --tokens 64,256,1024,2048) the engine's times are its stages in
answers to one request at a time.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import time

from engine_times import from_file, from_prefill_bench, from_stages
from ideal_queue import first_come_first_served, least_work_first, rate_at
from load_service import LoadError, ROOT, keep_name, kind_name, say, service
from local_cluster import ClusterError
from provenance import driver, provenance

KEEP = 0.1
OTHER_KEEPS = (0.05, 0.2, 0.4)  # of the medium and the long prompts, alone
MIX_WEIGHTS = (6, 3, 1)  # short, medium and long prompts of mixed arrivals
LEAST_POISSON_REQUESTS = 8
ALONE_TOKENS = 16  # generated for each request alone: inter-token times need some
STOP_S = 5.0  # to stop a cluster
SLOWER = 3.0  # than the ideal a load may be, when the budget is looked at
START_GUESS_S = 40.0  # of the first cluster


class OutOfTime(Exception):
    """The budget does not cover the next load."""


class Table:
    """The rows so far, in a file after each of them."""

    def __init__(self, path, head, budget_s):
        self.path, self.data = path, {**head, "rows": [], "starts_s": {}, "left_out": [], "failed": {}}
        self.begin, self.budget_s = time.monotonic(), budget_s

    def add(self, row):
        self.data["rows"].append(row)
        self.write()

    def write(self):
        self.data["wall_s"] = round(time.monotonic() - self.begin, 1)
        if self.path:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps(self.data) + "\n", encoding="utf-8")

    def need(self, what, seconds):
        """OutOfTime, and a line in the file, when `what` would end after the budget."""
        left = self.budget_s - (time.monotonic() - self.begin)
        if seconds > left:
            say(f"{what}: left out, would take about {seconds:.0f} s of the {left:.0f} s left")
            self.data["left_out"].append(what)
            raise OutOfTime(what)


def keep_of(part):
    return KEEP if part.endswith("claa") else 1


def burst_kind(part):
    return int(part.split("-")[1]), keep_of(part)


class Measurement:
    """What all parts share: the sizes, the engine's times, the table."""

    def __init__(self, args, parts, table):
        self.args, self.parts, self.table, self.engine = args, parts, table, None
        self.short, self.medium, self.long, self.longest = args.tokens
        self.start_s = START_GUESS_S

    def alone_kinds(self):
        kinds = [(tokens, keep) for tokens in self.args.tokens for keep in (1, KEEP)]
        kinds += [(tokens, keep) for tokens in (self.medium, self.long) for keep in OTHER_KEEPS]
        # The first request after readiness is a medium one, unpruned.
        return sorted(kinds, key=lambda kind: (kind != (self.medium, 1), kind[0], -kind[1]))

    def mixes(self, keep):
        """{name: [(kind, weight)]} of the Poisson arrivals that are wanted."""
        sizes = (self.short, self.medium, self.long)
        mixes = {f"{self.short}": [((self.short, keep), 1)], f"{self.medium}": [((self.medium, keep), 1)],
                 "mixed": [((tokens, keep), weight) for tokens, weight in zip(sizes, MIX_WEIGHTS)]}
        wanted = self.args.mixes.split(",")
        return {name: mix for name, mix in mixes.items() if name in wanted or self.args.mixes == "all"}

    def kinds(self):
        """All that the wanted parts ask for; all there are when that is the engine alone."""
        kinds = set()
        for part in self.parts:
            if part == "alone":
                kinds.update(self.alone_kinds())
            elif part.startswith("burst"):
                kinds.add(burst_kind(part))
            elif part.startswith("poisson"):
                kinds.update(kind for mix in self.mixes(keep_of(part)).values() for kind, _ in mix)
        return sorted(kinds or self.alone_kinds())

    def cluster_options(self):
        args = self.args
        options = {"device": args.device, "max_model_len": self.longest + 256, "kv_cache_mib": args.kv_cache_mib,
                   "timeout": 300, "prefill_tp": args.tp, "decode_tp": args.tp}
        if args.model == "8b":
            options.update(model=ROOT / "bench/configs/llama-3.1-8b", tokenizer=ROOT / "models/demo",
                           random_weights=True, dtype="bf16")
        if args.chunk_tokens:
            options["chunk_tokens"] = args.chunk_tokens
        return options

    def service(self, part):
        self.table.need(part, self.start_s + STOP_S)
        return service(part, self.cluster_options(), self.args.timeout_s, self.args.logs)

    def started(self, part, asked):
        self.start_s = asked.start_s
        self.table.data["starts_s"][part] = round(asked.start_s, 2)

    def work(self, arrivals):
        """[(due, kind)] -> [(due, seconds of the engine)]"""
        return [(due, self.engine(kind)) for due, kind in arrivals]


def engine_part(measurement, _part):
    args = measurement.args
    if args.engine_from:
        measurement.engine = from_file(args.engine_from)
    elif args.device == "cpu":
        measurement.engine = from_stages(measurement.cluster_options(), measurement.kinds(), args.timeout_s)
    else:
        model = ROOT / "bench/configs/llama-3.1-8b" if args.model == "8b" else ROOT / "models/demo"
        measurement.engine = from_prefill_bench(model, measurement.kinds(), args.tp)
    measurement.table.data["engine"] = measurement.engine.to_json()
    measurement.table.write()


def alone_part(measurement, part):
    args, table, engine = measurement.args, measurement.table, measurement.engine
    with measurement.service(part) as asked:
        measurement.started(part, asked)
        for kind in measurement.alone_kinds():
            name = kind_name(kind)
            table.need(name, SLOWER * (1 + args.repeats) * engine(kind) + STOP_S)
            for run, requests in (("first", 1), ("later", args.repeats)):
                table.add(asked.measure([(kind, 1)], f"alone {name}, {run}", "in-turn", requests, ALONE_TOKENS,
                                        lambda arrivals: [seconds for _, seconds in measurement.work(arrivals)]))


def bursts(args):
    """[(name, pause before it, tokens)]: the last needs no decode worker, so no KV leaves the engine."""
    later = [(f"{number}, after {pause:g} s", pause, args.max_tokens) for number, pause in enumerate(args.pauses, 2)]
    return [("1", 0, args.max_tokens), *later, ("token 0 alone", max(args.pauses, default=0), 1)]


def burst_part(measurement, part):
    args, table = measurement.args, measurement.table
    kind = burst_kind(part)
    requests = args.burst_short if kind[0] == measurement.short else args.burst_medium
    with measurement.service(part) as asked:
        measurement.started(part, asked)
        for name, pause_s, max_tokens in bursts(args):
            what = f"{requests} x {kind_name(kind)}, {name}"
            table.need(what, pause_s + SLOWER * requests * measurement.engine(kind) + STOP_S)
            time.sleep(pause_s)
            table.add(asked.measure([(kind, 1)], what, "at-once", requests, max_tokens,
                                    lambda arrivals: first_come_first_served(measurement.work(arrivals))))


def poisson_part(measurement, part):
    args, table = measurement.args, measurement.table
    keep = keep_of(part)
    with measurement.service(part) as asked:
        measurement.started(part, asked)
        for mix_name, mix in measurement.mixes(keep).items():
            # The first requests lock memory and the like: parts before this one measure them.
            asked.ask(mix, f"warm {mix_name} {keep}", "at-once", 4, args.max_tokens)
            for share in args.shares:
                rate = rate_at(share, mix, measurement.engine)
                requests = max(round(rate * args.seconds), LEAST_POISSON_REQUESTS)
                what = f"poisson {share:g}, {mix_name} {keep_name(keep)}"
                table.need(what, 2 * requests / rate + STOP_S)
                table.add(asked.measure(mix, what, "poisson", requests, args.max_tokens,
                                        lambda arrivals: least_work_first(measurement.work(arrivals)), rate))


def parts_of(args):
    short, medium = args.tokens[:2]
    return {"engine": engine_part, "alone": alone_part,
            f"burst-{medium}-claa": burst_part, f"burst-{medium}-full": burst_part,
            f"burst-{short}-claa": burst_part, f"burst-{short}-full": burst_part,
            "poisson-claa": poisson_part, "poisson-full": poisson_part}


def table_text(rows):
    lines = [f"{'ms':44}{'mean':>9}{'p50':>9}{'p99':>9}{'last':>9}{'ideal':>9}{'last':>9}{'mean/':>7}{'last/':>7}"
             f"{'gap':>7}{'inter':>7}{'queue':>8}{'steps':>8}{'GB/s':>6}"]
    for row in rows:
        ttft, ideal = row["ttft_ms"], row["ideal_ttft_ms"]
        queue = row["stages_ms"]["queue"] + row["stages_ms"]["reserve_wait"]
        lines.append(
            f"{row['what']:44}{ttft['mean']:9.1f}{ttft['p50']:9.1f}{ttft['p99']:9.1f}{ttft['last']:9.1f}"
            f"{ideal['mean']:9.1f}{ideal['last']:9.1f}{ttft['mean'] / ideal['mean']:7.2f}"
            f"{ttft['last'] / ideal['last']:7.2f}{row['gap_ms']['mean']:7.1f}{row['inter_token_ms']:7.2f}"
            f"{queue:8.1f}{row['engine_stages_ms']:8.1f}{row['handoff'].get('gb_s', 0):6.1f}"
            + (f"  {row['errors']}" if row["errors"] else ""))
    return "\n".join(lines)


def numbers(kind):
    return lambda text: [kind(word) for word in text.split(",")]


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--model", choices=("8b", "demo"), default="8b")
    parser.add_argument("--tp", type=int, default=1, help="ranks, and GPUs, of either worker (1)")
    parser.add_argument("--tokens", type=numbers(int), default=[2048, 8192, 32768, 65536],
                        help="short, medium, long and longest prompts (2048,8192,32768,65536)")
    parser.add_argument("--only", default="", help="parts, separated by commas; engine is always among them (all)")
    parser.add_argument("--engine-from", type=pathlib.Path, help="JSON of an earlier run, to take the engine's times from")
    parser.add_argument("--budget-s", type=float, default=float("inf"), help="wall-clock seconds for everything")
    parser.add_argument("--repeats", type=int, default=3, help="later requests of each kind alone (3)")
    parser.add_argument("--pauses", type=numbers(float), default=[2, 2, 0],
                        help="seconds before each burst of a kind that follows its first (2,2,0)")
    parser.add_argument("--burst-medium", type=int, default=16, help="medium prompts at once (16)")
    parser.add_argument("--burst-short", type=int, default=32, help="short prompts at once (32)")
    parser.add_argument("--shares", type=numbers(float), default=[0.5, 0.8, 0.95],
                        help="of the engine's capacity that Poisson arrivals ask for (0.5,0.8,0.95)")
    parser.add_argument("--mixes", default="all", help="of Poisson arrivals: the short or medium size, or mixed (all)")
    parser.add_argument("--seconds", type=float, default=20, help="of arrivals at each share (20)")
    parser.add_argument("--max-tokens", type=int, default=2, help="generated for each request of bursts and arrivals (2)")
    parser.add_argument("--kv-cache-mib", type=int, default=40960, help="KV memory of the decode worker (40960)")
    parser.add_argument("--chunk-tokens", type=int, help="prompt rows of a prefill step (the worker's default)")
    parser.add_argument("--timeout-s", type=int, default=240, help="of a request (240)")
    parser.add_argument("--out", type=pathlib.Path, help="JSON file")
    parser.add_argument("--logs", type=pathlib.Path, help="folder that keeps the processes' logs")
    args = parser.parse_args()
    if len(args.tokens) != 4 or sorted(set(args.tokens)) != args.tokens:
        parser.error("--tokens: four ascending lengths")
    parts = parts_of(args)
    wanted = args.only.split(",") if args.only else list(parts)
    unknown = [part for part in wanted if part not in parts]
    if unknown:
        parser.error(f"--only: no part {', '.join(unknown)}; there are {', '.join(parts)}")
    return args, {part: run for part, run in parts.items() if part in wanted or part == "engine"}


def main():
    args, parts = parse_arguments()
    head = {**provenance(args.device), "driver": driver(), "command": sys.argv, "tensor_parallel": args.tp,
            "model": args.model, "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    table = Table(args.out, head, args.budget_s)
    measurement = Measurement(args, parts, table)
    for part, run in parts.items():
        try:
            run(measurement, part)
        except OutOfTime:
            pass
        except (LoadError, ClusterError, OSError, subprocess.SubprocessError) as error:
            say(f"{part} FAILED: {error}")
            table.data["failed"][part] = str(error)
            if part == "engine":
                break
        finally:
            table.write()
    print(json.dumps({key: value for key, value in table.data.items() if key != "rows"}))
    print(table_text(table.data["rows"]), flush=True)
    return 1 if table.data["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
