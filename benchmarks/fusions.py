"""What a fusion costs: the time and the peak memory of a training step by the number of inputs and of their tokens.

    python -m benchmarks.fusions --ledger results/fusion_costs.csv

A step is forward and backward of the trunk and the fusion alone, without encoders and heads, in float32 on one thread,
on 32 rows of 16 text tokens and 1 or 4 inputs of 1, 16 or 64 tokens each; all of it learns, and the trunk has MiniLM's
shape and random weights. Fusions take turns, a round untimed and three timed; ``relative_time`` is the median over
these of a fusion's time over that of ``mean`` in the same round. ``megabytes`` is how far the process grows above what
it held before the step (VmHWM, Linux; on a GPU what torch counts).
"""

import argparse
import ctypes
import statistics
import sys
import time
from pathlib import Path

import torch
from transformers import AutoModel, BertConfig

from mmbert.fusion import FUSIONS
from mmbert.tracking.ledger import Measured, append_results
from mmbert.trunk.huggingface import HuggingFaceTrunk
from mmbert.trunk.vocabulary import Vocabulary
from mmbert.types import Present, Tokens

ROWS, WORDS, DIM = 32, 16, 384
CASES = ((1, 1), (1, 16), (1, 64), (4, 1), (4, 16), (4, 64))  # inputs, tokens of each
ROUNDS = 3
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def make_trunk() -> HuggingFaceTrunk:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=1000, hidden_size=DIM, num_hidden_layers=6, num_attention_heads=12, intermediate_size=4 * DIM
    )
    model = AutoModel.from_config(config, add_pooling_layer=False, trust_remote_code=False)
    return HuggingFaceTrunk(model, Vocabulary("", cls=1, sep=2, pad=0, size=1000), ("text",)).to(DEVICE)


class Case:
    """One fusion on some inputs."""

    def __init__(self, name: str, trunk: HuggingFaceTrunk, inputs: int, tokens: int):
        names = [f"input{place}" for place in range(inputs)]
        torch.manual_seed(1)
        self.trunk, self.fusion = trunk, FUSIONS.get(name)(DIM, dict.fromkeys(names, False)).to(DEVICE)
        ids, unit = torch.randint(3, 1000, (ROWS, WORDS)), torch.arange(WORDS).expand(ROWS, WORDS)
        self.text = {"text": Present(torch.arange(ROWS), {"tokens": ids, "mask": unit >= 0, "unit": unit})}
        place = torch.arange(tokens, device=DEVICE).expand(ROWS, tokens)
        self.streams = {
            one: Tokens(torch.randn(ROWS, tokens, DIM, device=DEVICE, requires_grad=True), place >= 0, place)
            for one in names
        }

    def step(self) -> float:
        """Seconds of forward and backward."""
        start = time.perf_counter()
        texts = {name: Present(one.rows.to(DEVICE), {key: tensor.to(DEVICE) for key, tensor in one.tensors.items()})
                 for name, one in self.text.items()}  # fmt: skip
        fused = self.fusion(self.trunk, self.trunk.embed(texts, ROWS), self.streams)
        fused.summary.square().sum().backward()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        for part in (self.trunk, self.fusion):
            part.zero_grad(set_to_none=True)
        for stream in self.streams.values():
            stream.values.grad = None
        return seconds


def peak(case: Case) -> int:
    """Bytes by which a step grows the process at most."""
    if DEVICE == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        case.step()
        return torch.cuda.max_memory_allocated() - before
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what is free goes back to the system, so that it counts again
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _resident("VmRSS")
    case.step()
    return _resident("VmHWM") - before


def _resident(name: str) -> int:
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith(f"{name}:"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ledger", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    trunk = make_trunk()
    lines: dict[str, dict[str, dict[str, float]]] = {}
    for inputs, tokens in CASES:
        cases = {name: Case(name, trunk, inputs, tokens) for name in FUSIONS.names()}
        memory = {name: (case.step(), peak(case))[1] for name, case in cases.items()}
        rounds = [{name: case.step() for name, case in cases.items()} for _ in range(ROUNDS)]
        task = f"{inputs}_x_{tokens}"
        for name in cases:
            ratio = statistics.median(one[name] / one["mean"] for one in rounds)
            seconds = statistics.median(one[name] for one in rounds)
            lines.setdefault(name, {})[task] = {
                "relative_time": ratio, "seconds": seconds, "megabytes": memory[name] / 1e6,
            }  # fmt: skip
            print(f"{task:<8} {name:<16} {seconds:.3f} s  {ratio:.2f} x mean  {memory[name] / 1e6:.0f} MB", flush=True)
    if arguments.ledger:
        append_results(arguments.ledger, lines, Measured("fusion costs", 0, "train"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
