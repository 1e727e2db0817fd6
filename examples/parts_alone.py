"""The parts without a recipe or a trainer: a trunk, an encoder, a fusion and a task in a plain PyTorch loop.

Run: python examples/parts_alone.py [CHECKPOINT]    (minilm, a folder, or a name on the model hub)
"""

import math
import sys

import torch

from encoders.series import SeriesEncoder, SeriesProcessor
from mmbert.fusion.concat import Concat
from mmbert.trunk.huggingface import HuggingFaceTrunk
from mmbert.trunk.text import TextProcessor
from mmbert.types import Present
from tasks.classification import Classification

torch.manual_seed(0)
notes = ["a slow swell", "a quick flutter"] * 8
curves = [[math.sin(step * (0.2 + row % 2)) for step in range(16 + row)] for row in range(16)]
labels = ["calm", "rough"] * 8
rows = torch.arange(16)  # the rows that have the input: here all of them

trunk = HuggingFaceTrunk.from_pretrained(sys.argv[1] if len(sys.argv) > 1 else "minilm", tune="top1")
text, series, label = TextProcessor(trunk.vocabulary), SeriesProcessor(), Classification.processor()
series.fit(curves)
label.fit(labels)
tokens, values, targets = (
    processor.collate([processor(value) for value in column])
    for processor, column in ((text, notes), (series, curves), (label, labels))
)
encoder = SeriesEncoder(trunk.dim, series)
fusion = Concat(trunk.dim, {"curve": False})  # False: no task labels the single steps of the curve
task = Classification(trunk.dim, label)
model = torch.nn.ModuleList([trunk, encoder, fusion, task])
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
for step in range(10):
    fused = fusion(trunk, trunk.embed({"text": Present(rows, tokens)}, len(rows)), {"curve": encoder(**values)})
    loss = task.loss(task(fused), targets) / task.count(targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(f"step {step + 1}: loss {loss.item():.3f}")
