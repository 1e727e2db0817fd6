"""The cost of a fusion: time and peak memory of a training step, by the number of inputs and of their tokens.

    python -m benchmarks.fusions --ledger results/fusion_costs.csv

A step is forward and backward of the trunk and the fusion only, without encoders and heads, in float32 on one thread,
on 32 rows of 16 text tokens and 1 or 4 inputs of 1, 16 or 64 tokens each. All parameters learn; the trunk has the shape
of MiniLM and random weights. Fusions take turns, one round untimed, three timed. ``relative_time`` is the median over
rounds of a fusion's time divided by that of ``mean`` in the same round. ``megabytes`` is the growth of the process
during the step (VmHWM, Linux; on a GPU torch's count).
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
    """A trunk of the shape of MiniLM with random weights."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=1000, hidden_size=DIM, num_hidden_layers=6, num_attention_heads=12, intermediate_size=4 * DIM
    )
    model = AutoModel.from_config(config, add_pooling_layer=False, trust_remote_code=False)
    return HuggingFaceTrunk(model, Vocabulary("", cls=1, sep=2, pad=0, size=1000), ("text",)).to(DEVICE)


class FusionStep:
    """A training step of one fusion on synthetic inputs.

    Args:
        name: of the fusion.
        trunk: that it uses.
        inputs: number of inputs.
        tokens: of each input.
    """

    def __init__(self, name: str, trunk: HuggingFaceTrunk, inputs: int, tokens: int):
        names = [f"input{index}" for index in range(inputs)]
        torch.manual_seed(1)
        self.trunk, self.fusion = trunk, FUSIONS.get(name)(DIM, dict.fromkeys(names, False)).to(DEVICE)
        ids, unit = torch.randint(3, 1000, (ROWS, WORDS)), torch.arange(WORDS).expand(ROWS, WORDS)
        self.text = {"text": Present(torch.arange(ROWS), {"tokens": ids, "mask": unit >= 0, "unit": unit})}
        position = torch.arange(tokens, device=DEVICE).expand(ROWS, tokens)
        self.streams = {
            stream: Tokens(torch.randn(ROWS, tokens, DIM, device=DEVICE, requires_grad=True), position >= 0, position)
            for stream in names
        }

    def run(self) -> float:
        """Seconds of forward and backward."""
        start = time.perf_counter()
        texts = {
            name: Present(text.rows.to(DEVICE), {key: tensor.to(DEVICE) for key, tensor in text.tensors.items()})
            for name, text in self.text.items()
        }
        fused = self.fusion(self.trunk, self.trunk.embed(texts, ROWS), self.streams)
        fused.summary.square().sum().backward()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        for module in (self.trunk, self.fusion):
            module.zero_grad(set_to_none=True)
        for stream in self.streams.values():
            stream.values.grad = None
        return seconds


def measure_peak(step: FusionStep) -> int:
    """The most bytes by which the process grows during a step."""
    if DEVICE == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step.run()
        return torch.cuda.max_memory_allocated() - before
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # returns free memory to the system, so that new allocations count
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = _resident_bytes("VmRSS")
    step.run()
    return _resident_bytes("VmHWM") - before


def _resident_bytes(name: str) -> int:
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith(f"{name}:"))


def main() -> int:
    """Measure all fusions in all cases, print and append the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ledger", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    trunk = make_trunk()
    lines: dict[str, dict[str, dict[str, float]]] = {}
    for inputs, tokens in CASES:
        steps = {name: FusionStep(name, trunk, inputs, tokens) for name in FUSIONS.names()}
        memory = {}
        for name, step in steps.items():
            step.run()  # warms up
            memory[name] = measure_peak(step)
        rounds = [{name: step.run() for name, step in steps.items()} for _ in range(ROUNDS)]
        task = f"{inputs}_x_{tokens}"
        for name in steps:
            ratio = statistics.median(times[name] / times["mean"] for times in rounds)
            seconds = statistics.median(times[name] for times in rounds)
            lines.setdefault(name, {})[task] = {
                "relative_time": ratio,
                "seconds": seconds,
                "megabytes": memory[name] / 1e6,
            }
            print(f"{task:<8} {name:<16} {seconds:.3f} s  {ratio:.2f} x mean  {memory[name] / 1e6:.0f} MB", flush=True)
    if arguments.ledger:
        append_results(arguments.ledger, lines, Measured("fusion costs", 0, "train"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
