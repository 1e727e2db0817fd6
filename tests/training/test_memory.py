"""Freed memory that the process keeps, instead of giving it back to the system."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KEPT = """
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
def test_what_is_freed_stays_with_the_process():
    done = subprocess.run([sys.executable, "-c", KEPT], cwd=ROOT, capture_output=True, text=True, check=True)
    given_back, kept = map(float, done.stdout.split())
    assert given_back < 0.1
    assert kept > 0.9
