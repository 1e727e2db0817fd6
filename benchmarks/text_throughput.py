"""Fine-tuning MiniLM on texts: mmbert against transformers.Trainer padded, dynamic and grouped by length, in one run.

    python -m benchmarks.text_throughput --json text.json --ledger results/text_throughput.csv

takes under 25 minutes on two CPU cores. For each kind of text (names of molecules, reviews, both half and half) every
arm trains its own model, AdamW in float32, batches of 32, dropout as the checkpoint has it, in turns: ``--repeats``
times ``--steps`` steps each. What is compared are real tokens a second within a repeat; figures are medians over
repeats. The share of the GEMM peak counts the operations that real tokens need, over the fastest product of MiniLM's
shapes that this run saw. Batches grouped by length are not random: each holds texts of one length, most of them of one
kind; the other arms read the same random batches.
"""

import argparse
import ctypes
import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch

from benchmarks.text_arms import ARMS, BATCH, Arm, Counts
from benchmarks.text_rows import samples
from mmbert.tracking.ledger import Measured, append_results
from mmbert.training.memory import keep_freed_memory

TEXTS = ("names", "reviews", "both")
LAYERS, WIDTH, INNER = 6, 384, 1536  # of MiniLM
OTHERS = ("padded", "dynamic", "grouped")


def flops(lengths: Sequence[int], *, layers: int = LAYERS, width: int = WIDTH, inner: int = INNER) -> int:
    """Operations of a training step on sequences of these lengths: forward, and twice as much backward.

    Two for each weight of a layer and each token, and four for each pair of tokens of a sequence and each dimension.

    >>> flops([10], layers=1, width=2, inner=8) == 3 * (2 * 10 * (4 * 2 * 2 + 2 * 2 * 8) + 4 * 10 * 10 * 2)
    True
    """
    weights = 4 * width * width + 2 * width * inner
    return 3 * layers * sum(2 * length * weights + 4 * length**2 * width for length in lengths)


def gemm_peak(tokens: int = 1024, tries: int = 12) -> float:
    """Operations a second of the fastest of some products of MiniLM's shapes."""
    one, other = torch.randn(tokens, WIDTH), torch.randn(WIDTH, INNER)
    fastest = 0.0
    for _ in range(tries):
        start = time.perf_counter()
        (one @ other) @ other.T
        fastest = max(fastest, 4 * tokens * WIDTH * INNER / (time.perf_counter() - start))
    return fastest


def summary(runs: dict[str, list[Counts]], peak: float) -> dict[str, dict[str, float]]:
    """The figures of each arm out of its repeats, and of mmbert how many times as fast it is as the others."""

    def rate(run: Counts) -> float:
        return sum(run.lengths) / run.seconds

    found = {}
    for arm, own in runs.items():
        found[arm] = {
            "examples_per_second": median(len(run.lengths) / run.seconds for run in own),
            "tokens_per_second": median(map(rate, own)),
            "efficiency": sum(sum(run.lengths) for run in own) / sum(run.computed for run in own),
            "gemm_share": median(flops(run.lengths) / run.seconds for run in own) / peak,
            "loss": mean(own[-1].losses),
        }
    for arm in OTHERS:
        if arm in runs and "mmbert" in runs:
            pairs = zip(runs["mmbert"], runs[arm], strict=True)
            found["mmbert"][f"vs_{arm}"] = median(rate(one) / rate(other) for one, other in pairs)
    return found


def verdict(found: dict[str, dict[str, float]]) -> dict[str, float]:
    """What stands in the JSON file for one kind of text."""
    told = {name: value for name, value in found["mmbert"].items() if name.startswith("vs_") or name == "gemm_share"}
    told |= {f"efficiency_{arm}": found[arm]["efficiency"] for arm in OTHERS if arm in found}
    for arm in OTHERS[:2]:
        if arm in found:
            told[f"target_vs_{arm}"] = 0.87 / found[arm]["efficiency"]
    if "mmbert, no dropout" in found:
        told["gemm_share_without_dropout"] = found["mmbert, no dropout"]["gemm_share"]
    return told


def with_memory(run: Callable[[], Counts]) -> tuple[Counts, float]:
    """A run, and by how many MB it raised the memory of this process at most; not a number but on Linux."""
    status, clear = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not clear.exists():
        return run(), float("nan")

    def kilobytes(name: str) -> int:
        return int(re.findall(rf"{name}:\s+(\d+)", status.read_text())[0])

    ctypes.CDLL(None).malloc_trim(0)  # what earlier arms freed must not serve this one
    clear.write_text("5")  # the peak counts from here
    before = kilobytes("VmRSS")
    return run(), (kilobytes("VmHWM") - before) / 1e3


def measure(kind: str, rows: int, repeats: int, steps: int, chosen: Sequence[str]) -> tuple[dict[str, Any], float]:
    """All arms in turns on one kind of text: the figures of each, and the GEMM peak of this run."""
    data = samples(kind, rows)
    keep_freed_memory()  # of the process, and so of all arms
    arms: dict[str, Arm] = {name: ARMS[name](data) for name in chosen}
    memory = {}
    for name, arm in arms.items():
        _, memory[name] = with_memory(lambda arm=arm: arm.run(repeats, 2))  # warms up on rows that are not timed
    runs: dict[str, list[Counts]] = {name: [] for name in arms}
    peak = gemm_peak()
    for repeat in range(repeats):
        for name, arm in arms.items():
            runs[name].append(arm.run(repeat, steps))
            peak = max(peak, gemm_peak())
        print(f"  {kind}: repeat {repeat + 1} of {repeats}", file=sys.stderr, flush=True)
    found = summary(runs, peak)
    for name, own in found.items():
        own["memory_mb"] = memory[name]
    return found, peak


def table(kind: str, found: dict[str, dict[str, float]], peak: float) -> str:
    lines = [f"{kind}: GEMM peak {peak / 1e9:.0f} GFLOP/s, {torch.get_num_threads()} threads"]
    lines.append(f"  {'':<20} examples/s  tokens/s  real/computed  of peak  memory, MB   loss")
    for name, own in found.items():
        lines.append(
            f"  {name:<20} {own['examples_per_second']:10.1f} {own['tokens_per_second']:9.0f} "
            f"{own['efficiency']:14.3f} {own['gemm_share']:8.3f} {own['memory_mb']:11.0f} {own['loss']:6.3f}"
        )
    lines += [f"  mmbert {name.replace('vs_', 'to ')}: {value:.2f}" for name, value in found["mmbert"].items()
              if name.startswith("vs_")]  # fmt: skip
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", help="a file to write the ratios and shares to")
    parser.add_argument("--ledger", help="a CSV file to append all figures to")
    parser.add_argument("--rows", type=int, default=8000, help="rows of each kind of text that batches are drawn from")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10, help="steps of an arm in each repeat")
    parser.add_argument("--only", nargs="+", choices=TEXTS, default=TEXTS)
    parser.add_argument("--arms", nargs="+", choices=[*ARMS], default=[*ARMS])
    arguments = parser.parse_args()
    print(
        f"{arguments.repeats} repeats of {arguments.steps} steps of {BATCH} rows of {arguments.rows}, arms in turns; "
        "medians.\nGrouped batches are not random: each has texts of one length, and their loss is of other rows."
    )
    told = {}
    for kind in arguments.only:
        found, peak = measure(kind, arguments.rows, arguments.repeats, arguments.steps, arguments.arms)
        print(table(kind, found, peak), flush=True)
        told[kind] = verdict(found)
        if arguments.json:
            Path(arguments.json).write_text(json.dumps({"texts": told}, indent=1) + "\n")
        if arguments.ledger:
            lines = {name: {kind: own} for name, own in found.items()}
            append_results(arguments.ledger, lines, Measured("text throughput", 0, "train"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
