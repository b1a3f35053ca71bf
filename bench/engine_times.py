"""The engine's own time to the first token of each kind of prompt, without a service around it."""

import json
import pathlib
import subprocess

from load_service import BIN, engine_seconds, keep_name, say, service

REPEATS = 3


class EngineTimes:
    """{(prompt tokens, keep ratio): seconds}, and where the times are from."""

    def __init__(self, source, seconds):
        self.source, self._seconds = source, seconds

    def __call__(self, kind):
        return self._seconds[kind]

    def to_json(self):
        table = {}
        for (tokens, keep), seconds in self._seconds.items():
            table.setdefault(str(tokens), {})[keep_name(keep)] = round(seconds * 1e3, 3)
        return {"source": self.source, "ms": table}

    @staticmethod
    def from_json(data):
        """Inverse of to_json."""
        keep_of = {"full": 1}
        seconds = {}
        for tokens, row in data["ms"].items():
            for name, ms in row.items():
                keep = keep_of.get(name) or float(name.removeprefix("claa "))
                seconds[int(tokens), keep] = ms * 1e-3
        return EngineTimes(data["source"], seconds)


def from_prefill_bench(model, kinds, tensor_parallel):
    """Medians of cuda_prefill_bench, which has the GPU to itself: call this while no worker runs."""
    tokens = sorted({size for size, _ in kinds})
    keeps = sorted({keep for _, keep in kinds if keep < 1}, reverse=True)
    command = [str(BIN / "cuda_prefill_bench"), f"--config={model}", f"--tokens={','.join(map(str, tokens))}",
               f"--keep={','.join(f'{keep:g}' for keep in keeps)}", f"--repeats={REPEATS}", f"--tp={tensor_parallel}",
               "--as_served", "--nodetails"]
    say(" ".join(command))
    output = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    table = json.loads(output.strip().splitlines()[-1])
    seconds = {}
    for size in tokens:
        seconds[size, 1] = table["dense_ms"][str(size)] * 1e-3
        for keep in keeps:
            seconds[size, keep] = table["claa_ms"][f"{keep:g}"][str(size)] * 1e-3
    return EngineTimes("cuda_prefill_bench", seconds)


def from_stages(options, kinds, timeout_s):
    """The quickest of a few answers' engine stages, each prompt alone: where there is no GPU for the bench."""
    seconds = {}
    with service("engine", options, timeout_s) as asked:
        for kind in kinds:
            report = asked.ask([(kind, 1)], f"engine {kind}", "in-turn", REPEATS, 1)
            seconds[kind] = min(engine_seconds(one) for one in report["each"])
    return EngineTimes("stages of answers", seconds)


def from_file(path):
    """Those of an earlier run."""
    return EngineTimes.from_json(json.loads(pathlib.Path(path).read_text(encoding="utf-8"))["engine"])
