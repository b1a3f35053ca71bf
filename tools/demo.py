"""The run behind scripts/demo."""

import argparse
import json
import os
import statistics
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from document import make_document  # noqa: E402
from local_cluster import ClusterError, LocalCluster, RequestError  # noqa: E402

PREFILL_RANKS = 2
ROUNDS = 3  # measured; one more before them warms up
MAX_TOKENS = 16
STAGES = ("queue", "reserve_wait", "full_layers", "score", "allreduce", "select", "pruned_layers", "head")


def say(text):
    print(text, file=sys.stderr, flush=True)


def ask(cluster, document, policy, keep_ratio):
    selection = {"policy": policy}
    if policy == "claa":
        selection["keep_ratio"] = keep_ratio
    return cluster.generate(prompt=document.prompt, max_tokens=MAX_TOKENS, **selection)


def measure(document, keep_ratio):
    """{policy: its runs}, interleaved so that a slow moment of the machine hits both alike."""
    runs = {"full": [], "claa": []}
    with LocalCluster(prefill_tp=PREFILL_RANKS) as cluster:
        say(f"cluster is up on {cluster.address}")
        for round_number in range(ROUNDS + 1):
            name = f"round {round_number} of {ROUNDS}" if round_number else "warm-up"
            for policy, done in runs.items():
                answer = ask(cluster, document, policy, keep_ratio)
                say(f"{name}: {policy} answered {answer['text'].strip()!r}, first token after {answer['ttft_s']:.3f} s")
                if round_number:
                    done.append(answer)
        say("stopping the cluster")
    return runs


def median_run(runs):
    """The run with the median TTFT, so that its stages belong to the time that is shown."""
    middle = statistics.median_low(run["ttft_s"] for run in runs)
    return next(run for run in runs if run["ttft_s"] == middle)


def print_report(document, runs, full, claa):
    ratio = claa["ttft_s"] / full["ttft_s"]

    def row(name, left, right):
        print(f"  {name:<24}{left:>16}{right:>16}")

    print(f"\nA document of {full['prompt_tokens']:,} tokens with {len(document.facts)} facts. The question:")
    print(f"  {document.question}")
    print(f"  expected answer: {document.answer}\n")
    row("", "full", "claa")
    row("answer", full["text"].strip(), claa["text"].strip())
    row("time to first token", f"{full['ttft_s']:.3f} s", f"{claa['ttft_s']:.3f} s")
    row("  relative", "1.00", f"{ratio:.2f}")
    row("  of runs", *(" ".join(f"{run['ttft_s']:.2f}" for run in runs[p]) for p in ("full", "claa")))
    row("kept prompt tokens", f"{full['kept_tokens']:,}", f"{claa['kept_tokens']:,}")
    ledgers = full["ledger"], claa["ledger"]
    row("KV shipped, bytes", *(f"{ledger['kv_bytes_shipped']:,}" for ledger in ledgers))
    row("  of a full run's", *(f"{ledger['kv_bytes_shipped'] / ledger['kv_bytes_full']:.0%}" for ledger in ledgers))
    for segment, title in (("all", "entries, whole layers"), ("per_head", "  per-head layers"),
                           ("selected", "  selected layers")):
        row(title, *(f"{ledger['segments'][segment]['entries_kept']:,}" for ledger in ledgers))
    row("row passes of layers", *(f"{ledger['computed_token_layers']:,}" for ledger in ledgers))
    for stage in STAGES:
        row(f"{stage.replace('_', ' ')}, ms", *(f"{run['stages'][stage] * 1000:.1f}" for run in (full, claa)))


def json_line(document, full, claa):
    return json.dumps({
        "expected": document.answer,
        "answer_full": full["text"].strip(),
        "answer_claa": claa["text"].strip(),
        "ttft_full_s": full["ttft_s"],
        "ttft_claa_s": claa["ttft_s"],
        "prompt_tokens": full["prompt_tokens"],
        "kept_tokens": claa["kept_tokens"],
        "kv_bytes_full": full["ledger"]["kv_bytes_shipped"],
        "kv_bytes_claa": claa["ledger"]["kv_bytes_shipped"],
        "prefill_tp": claa["prefill_tp"],
    })


def find_wrong_answer(document, runs):
    for policy, answers in runs.items():
        for answer in answers:
            if answer["text"].strip() != document.answer:
                return f"the answer with policy {policy} is {answer['text'].strip()!r}, expected {document.answer!r}"
    return None


def main():
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--tokens", type=int, default=8000, help="length of the prompt, about (8000)")
    parser.add_argument("--seed", type=int, default=1, help="another seed, another document")
    parser.add_argument("--keep-ratio", type=float, default=0.1, help="share of the prompt that claa keeps (0.1)")
    args = parser.parse_args()

    try:
        document = make_document(tokens=args.tokens, seed=args.seed)
        runs = measure(document, args.keep_ratio)
    except ValueError as error:
        parser.error(str(error))
    except (ClusterError, RequestError) as error:
        say(f"demo: {error}")
        return 1
    except KeyboardInterrupt:
        say("demo: interrupted; everything it started is stopped")
        return 130

    full, claa = median_run(runs["full"]), median_run(runs["claa"])
    if args.json:
        print(json_line(document, full, claa))
    else:
        print_report(document, runs, full, claa)
    wrong = find_wrong_answer(document, runs)
    if wrong:
        say(f"demo: {wrong}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
