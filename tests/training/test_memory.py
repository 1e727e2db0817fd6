"""keep_freed_memory: freed memory stays with the process instead of returning to the system."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MEASURE_SHARE = """
import psutil
import torch
from mmbert.training.memory import keep_freed_memory

def share():
    resident = psutil.Process().memory_info
    before = resident().rss
    pieces = [torch.ones(1 << 21) for _ in range(8)]
    grown = resident().rss - before
    del pieces
    return (resident().rss - before) / grown

print(share())
assert keep_freed_memory()
print(share())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_freed_memory_stays_with_the_process():
    done = subprocess.run([sys.executable, "-c", MEASURE_SHARE], cwd=ROOT, capture_output=True, text=True, check=True)
    share_before, share_after = map(float, done.stdout.split())
    assert share_before < 0.1
    assert share_after > 0.9
