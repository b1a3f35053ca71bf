"""A cluster under measurement and the loads that bench/load_table.py puts on it, as rows of its table."""

import contextlib
import json
import pathlib
import subprocess
import sys
import time
import zlib

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
from ideal_queue import mean, summary_ms  # noqa: E402
from local_cluster import BIN, LocalCluster  # noqa: E402

# Stages of a prefill that are the engine's; the others are the service's.
ENGINE_STAGES = ("full_layers", "score", "allreduce", "select", "pruned_layers", "head")
SENT = 'winnow_kv_transfer_bytes_total{direction="sent"}'
TRANSFERS = "winnow_kv_transfer_seconds"
EXPOSED = "winnow_kv_transfer_exposed_seconds"


class LoadError(Exception):
    """A load whose requests failed, or that did not end in time; the text says what came."""


def kind_name(kind):
    """Of (prompt tokens, keep ratio): "8192 full", "8192 claa 0.1"."""
    tokens, keep = kind
    return f"{tokens} {keep_name(keep)}"


def keep_name(keep):
    return "full" if keep == 1 else f"claa {keep:g}"


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def engine_seconds(answer):
    """What an answer of a load says that the engine took for it."""
    return sum(answer["stages"][stage] for stage in ENGINE_STAGES)


class Service:
    """One router, prefill worker and decode worker, fresh from their start."""

    def __init__(self, cluster, start_s, timeout_s):
        self.cluster, self.start_s, self.timeout_s = cluster, start_s, timeout_s

    def ask(self, mix, what, arrivals, requests, max_tokens, rate=None):
        """The report of one `winnow load`; mix: [((prompt tokens, keep ratio), weight)] of one keep ratio.

        Every load has prompts of its own, the same ones in every run of this program.
        """
        keeps = {keep for (_, keep), _ in mix}
        if len(keeps) != 1:
            raise ValueError(f"one keep ratio for a load, got {keeps}")
        command = [str(BIN / "winnow"), "load", "--address", self.cluster.address, "--json", "--each",
                   "--arrivals", arrivals, "--requests", str(requests), "--max-tokens", str(max_tokens),
                   "--prompt-tokens", ",".join(f"{tokens}:{weight}" for (tokens, _), weight in mix),
                   "--keep-ratio", f"{keeps.pop():g}", "--seed", str(zlib.crc32(what.encode())),
                   "--timeout-s", str(self.timeout_s)]
        if rate is not None:
            command += ["--rate", f"{rate:.6f}"]
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=self.timeout_s + 60)
        if ran.returncode != 0:
            raise LoadError(f"{what}: {ran.stderr.strip()}")
        return json.loads(ran.stdout)

    def measure(self, mix, what, arrivals, requests, max_tokens, ideal, rate=None):
        """A row of the table. ideal([(due, (tokens, keep))]): times to the first token to hold the load's against."""
        before = self._transfers()
        report = self.ask(mix, what, arrivals, requests, max_tokens, rate)
        after = self._transfers()
        answers = [one for one in report["each"] if one["status"] == "OK"]
        row = {"what": what, "arrivals": arrivals, "requests": requests, "ok": report["ok"],
               "errors": report["errors"], "max_tokens": max_tokens, "seconds": round(report["seconds"], 3)}
        if rate is not None:
            row["rate"] = round(rate, 4)
        if not answers:
            raise LoadError(f"{what}: no request was answered: {report['each'][:1]}")
        ttft = [one["ttft_ms"] * 1e-3 for one in answers]
        kinds = [(one["due_s"], (one["prompt_tokens"], one["keep_ratio"])) for one in answers]
        row["ttft_ms"] = summary_ms(ttft)
        row["ideal_ttft_ms"] = summary_ms(ideal(kinds))
        row["gap_ms"] = summary_ms((one["second_token_ms"] - one["ttft_ms"]) * 1e-3
                                   for one in answers if "second_token_ms" in one)
        row["inter_token_ms"] = report["inter_token_ms"]["mean"]
        row["stages_ms"] = {stage: round(mean(one["stages"][stage] for one in answers) * 1e3, 3)
                            for stage in answers[0]["stages"]}
        row["engine_stages_ms"] = round(mean(map(engine_seconds, answers)) * 1e3, 2)
        row["handoff"] = self._handoff(before, after)
        row["each"] = [[round(due, 4), kind[0], kind[1], round(one * 1e3, 2)] for (due, kind), one in zip(kinds, ttft)]
        say(f"{what}: mean {row['ttft_ms']['mean']:.0f} ms, last {row['ttft_ms']['last']:.0f} ms, "
            f"ideal {row['ideal_ttft_ms']['mean']:.0f} and {row['ideal_ttft_ms']['last']:.0f} ms"
            + (f", ERRORS {report['errors']}" if report["errors"] else ""))
        return row

    def _transfers(self):
        metrics = self.cluster.metrics("prefill-0")
        return {name: metrics.get(name, 0.0) for name in
                (SENT, f"{TRANSFERS}_sum", f"{TRANSFERS}_count", f"{EXPOSED}_sum", f"{EXPOSED}_count")}

    @staticmethod
    def _handoff(before, after):
        """Of the load's handoffs: bytes over the sum of their times, first chunk sent to commit answered, in which the
        prefill goes on; and how long after token 0 they ended."""
        gone = {name: after[name] - before[name] for name in after}
        transfers = gone[f"{TRANSFERS}_count"]
        if not transfers:
            return {"count": 0}
        return {"count": int(transfers), "gb": round(gone[SENT] * 1e-9, 3),
                "gb_s": round(gone[SENT] * 1e-9 / max(gone[f"{TRANSFERS}_sum"], 1e-9), 2),
                "mean_ms": round(gone[f"{TRANSFERS}_sum"] / transfers * 1e3, 2),
                "exposed_ms": round(gone[f"{EXPOSED}_sum"] / max(gone[f"{EXPOSED}_count"], 1) * 1e3, 2)}


@contextlib.contextmanager
def service(name, options, timeout_s, logs=None):
    """A Service that nobody has asked yet. `logs`: folder that keeps its processes' logs."""
    begin = time.monotonic()
    with LocalCluster(**options) as cluster:
        start_s = time.monotonic() - begin
        say(f"{name}: ready after {start_s:.1f} s")
        try:
            yield Service(cluster, start_s, timeout_s)
        finally:
            if logs:
                logs.mkdir(parents=True, exist_ok=True)
                for process in cluster.processes():
                    (logs / f"{name}.{process}.log").write_text(cluster.log(process), encoding="utf-8")
