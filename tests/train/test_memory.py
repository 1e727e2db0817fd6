"""Freed memory that the process keeps, instead of giving it back to the system."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KEPT = """
import sys
import psutil
import torch
from mmbert.train.memory import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
resident = psutil.Process().memory_info
before = resident().rss
pieces = [torch.ones(1 << 21) for _ in range(8)]
grown = resident().rss - before
del pieces
print((resident().rss - before) / grown)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_what_is_freed_stays_with_the_process():
    def share(how):
        done = subprocess.run([sys.executable, "-c", KEPT, how], cwd=ROOT, capture_output=True, text=True, check=True)
        return float(done.stdout)

    assert share("kept") > 0.9
    assert share("given back") < 0.1
