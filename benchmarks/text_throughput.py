"""Throughput of fine-tuning MiniLM: mmbert and transformers.Trainer (padded, dynamic, grouped by length), in one run.

    python -m benchmarks.text_throughput --json text.json --ledger results/text_throughput.csv

takes under 25 minutes on two CPU cores. For each kind of text (names of molecules, reviews, both half and half) every
arm trains its own model, with AdamW in float32, batches of 32 and the dropout of the checkpoint. Arms take turns:
``--repeats`` times ``--steps`` steps each. Real tokens per second are compared within a repeat; figures are medians
over repeats. The share of the GEMM peak is the operations that real tokens need, divided by those of the fastest
product of MiniLM's shapes in this run. Batches grouped by length are not random: each has texts of one length, most of
them of one kind; the other arms read the same random batches.
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

import torch

from benchmarks.text_arms import ARMS, BATCH, Counts, TextArm
from benchmarks.text_rows import samples
from mmbert.tracking.ledger import Measured, append_results
from mmbert.training.memory import keep_freed_memory

TEXTS = ("names", "reviews", "both")
LAYERS, WIDTH, INNER = 6, 384, 1536  # of MiniLM
OTHERS = ("padded", "dynamic", "grouped")

Figures = dict[str, dict[str, float]]  # arm -> name -> value


def flops(lengths: Sequence[int], *, layers: int = LAYERS, width: int = WIDTH, inner: int = INNER) -> int:
    """Operations of a training step: forward, and twice as many backward.

    Two for each weight of a layer and each token, and four for each pair of tokens of a sequence and each dimension.

    Args:
        lengths: tokens of each sequence.
        layers: of the transformer.
        width: of its tokens.
        inner: width of the feed-forward layer.

    Example:
        >>> flops([10], layers=1, width=2, inner=8) == 3 * (2 * 10 * (4 * 2 * 2 + 2 * 2 * 8) + 4 * 10 * 10 * 2)
        True
    """
    weights = 4 * width * width + 2 * width * inner
    return 3 * layers * sum(2 * length * weights + 4 * length**2 * width for length in lengths)


def gemm_peak(tokens: int = 1024, tries: int = 12) -> float:
    """Operations per second of the fastest of several products of MiniLM's shapes.

    Args:
        tokens: rows of the left matrix.
        tries: number of products.
    """
    values, weights = torch.randn(tokens, WIDTH), torch.randn(WIDTH, INNER)
    fastest = 0.0
    for _ in range(tries):
        start = time.perf_counter()
        (values @ weights) @ weights.T
        fastest = max(fastest, 4 * tokens * WIDTH * INNER / (time.perf_counter() - start))
    return fastest


def summarise(runs: dict[str, list[Counts]], peak: float) -> Figures:
    """The figures of each arm over its repeats, and the speed of mmbert relative to the other arms.

    Args:
        runs: arm -> one entry a repeat.
        peak: operations per second of the fastest product.
    """

    def tokens_per_second(run: Counts) -> float:
        return sum(run.lengths) / run.seconds

    figures = {}
    for arm, repeats in runs.items():
        figures[arm] = {
            "examples_per_second": median(len(run.lengths) / run.seconds for run in repeats),
            "tokens_per_second": median(map(tokens_per_second, repeats)),
            "efficiency": sum(sum(run.lengths) for run in repeats) / sum(run.computed for run in repeats),
            "gemm_share": median(flops(run.lengths) / run.seconds for run in repeats) / peak,
            "loss": mean(repeats[-1].losses),
        }
    for arm in OTHERS:
        if arm in runs and "mmbert" in runs:
            pairs = zip(runs["mmbert"], runs[arm], strict=True)
            ratios = [tokens_per_second(ours) / tokens_per_second(theirs) for ours, theirs in pairs]
            figures["mmbert"][f"vs_{arm}"] = median(ratios)
    return figures


def json_entry(figures: Figures) -> dict[str, float]:
    """The entry of one kind of text in the JSON file."""
    entry = {key: value for key, value in figures["mmbert"].items() if key.startswith("vs_") or key == "gemm_share"}
    entry |= {f"efficiency_{arm}": figures[arm]["efficiency"] for arm in OTHERS if arm in figures}
    for arm in OTHERS[:2]:
        if arm in figures:
            entry[f"target_vs_{arm}"] = 0.87 / figures[arm]["efficiency"]
    if "mmbert, no dropout" in figures:
        entry["gemm_share_without_dropout"] = figures["mmbert, no dropout"]["gemm_share"]
    return entry


def run_with_memory(run: Callable[[], Counts]) -> tuple[Counts, float]:
    """The counts of a run, and the most MB by which it grew this process; NaN where the system is not Linux."""
    status, clear = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not clear.exists():
        return run(), float("nan")

    def kilobytes(name: str) -> int:
        return int(re.findall(rf"{name}:\s+(\d+)", status.read_text())[0])

    ctypes.CDLL(None).malloc_trim(0)  # memory that earlier arms freed must count again
    clear.write_text("5")  # resets the peak
    before = kilobytes("VmRSS")
    return run(), (kilobytes("VmHWM") - before) / 1e3


def measure(kind: str, rows: int, repeats: int, steps: int, names: Sequence[str]) -> tuple[Figures, float]:
    """Run arms in turns on one kind of text.

    Args:
        kind: of text.
        rows: that batches are drawn from.
        repeats: number of turns.
        steps: of an arm in each turn.
        names: of the arms.

    Returns:
        The figures of each arm, and the GEMM peak of this run.
    """
    data = samples(kind, rows)
    keep_freed_memory()  # for the whole process, and so for all arms
    arms: dict[str, TextArm] = {name: ARMS[name](data) for name in names}
    memory = {}
    for name, arm in arms.items():
        _, memory[name] = run_with_memory(lambda arm=arm: arm.run(repeats, 2))  # warms up on rows that are not timed
    runs: dict[str, list[Counts]] = {name: [] for name in arms}
    peak = gemm_peak()
    for repeat in range(repeats):
        for name, arm in arms.items():
            runs[name].append(arm.run(repeat, steps))
            peak = max(peak, gemm_peak())
        print(f"  {kind}: repeat {repeat + 1} of {repeats}", file=sys.stderr, flush=True)
    figures = summarise(runs, peak)
    for name, values in figures.items():
        values["memory_mb"] = memory[name]
    return figures, peak


def format_table(kind: str, figures: Figures, peak: float) -> str:
    """The table of one kind of text.

    Args:
        kind: of text.
        figures: of each arm.
        peak: the GEMM peak.
    """
    lines = [f"{kind}: GEMM peak {peak / 1e9:.0f} GFLOP/s, {torch.get_num_threads()} threads"]
    lines.append(f"  {'':<20} examples/s  tokens/s  real/computed  of peak  memory, MB   loss")
    for name, values in figures.items():
        speed = f"{values['examples_per_second']:10.1f} {values['tokens_per_second']:9.0f}"
        shares = f"{values['efficiency']:14.3f} {values['gemm_share']:8.3f}"
        lines.append(f"  {name:<20} {speed} {shares} {values['memory_mb']:11.0f} {values['loss']:6.3f}")
    for name, value in figures["mmbert"].items():
        if name.startswith("vs_"):
            lines.append(f"  mmbert {name.replace('vs_', 'to ')}: {value:.2f}")
    return "\n".join(lines)


def main() -> int:
    """Measure all kinds of text, print and write the figures."""
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
        "medians.\nGrouped batches are not random: each has texts of one length, and their loss is on other rows."
    )
    entries = {}
    for kind in arguments.only:
        figures, peak = measure(kind, arguments.rows, arguments.repeats, arguments.steps, arguments.arms)
        print(format_table(kind, figures, peak), flush=True)
        entries[kind] = json_entry(figures)
        if arguments.json:
            Path(arguments.json).write_text(json.dumps({"texts": entries}, indent=1) + "\n")
        if arguments.ledger:
            lines = {name: {kind: values} for name, values in figures.items()}
            append_results(arguments.ledger, lines, Measured("text throughput", 0, "train"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
