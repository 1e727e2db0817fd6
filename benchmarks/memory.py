"""Peak memory of a training run on 8,000 rows of a CSV file and on 80,000: text and a table, a tiny trunk, Linux.

    python -m benchmarks.memory

prints both peaks and their ratio. Memory is RssAnon (not backed by a file), summed over the process and its children.
"""

import csv
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROWS = (8_000, 80_000)
INTERVAL = 0.02  # seconds between two measurements
RECIPE = """\
name: memory
data: {made: {type: files, path: rows.csv}}
trunk: {checkpoint: null, layers: 1, hidden_size: 32, heads: 2, vocabulary: 1000, max_positions: 64}
inputs:
  title: {type: text, max_length: 16}
  cells: {type: table, column: [size, mass, colour], width: 16, layers: 1}
tasks: {price: {type: regression}, kind: {type: classification}}
train: {steps: 40, batch_size: 32}
evaluate: {baselines: false, batch_size: 256, every: 1000}
"""


def write_data(folder: Path, rows: int) -> None:
    """Write the recipe and its data; each row is a function of its number.

    Args:
        folder: that they are written into.
        rows: number of rows.
    """
    (folder / "recipe.yaml").write_text(RECIPE)
    words = [f"{first}{last}" for first in ("ab", "cd", "ef", "gh") for last in map(str, range(200))]
    with open(folder / "rows.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "title", "size", "mass", "colour", "price", "kind"])
        for row in range(rows):
            rng = random.Random(row)
            title = " ".join(rng.choices(words, k=12))
            colour, kind = rng.choice(["red", "green", "blue"]), rng.choice(["apple", "pear"])
            numbers = [f"{rng.gauss(0, 1):.6f}" for _ in range(3)]
            table.writerow([f"row{row:08d}", title, numbers[0], numbers[1], colour, numbers[2], kind])


def anonymous_bytes(pid: int) -> int:
    """RssAnon of a process and its children, in bytes; 0 where the process has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    parent = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")), 0)
    return parent + sum(anonymous_bytes(int(child)) for child in children)


def measure_peak(rows: int) -> tuple[int, float]:
    """The peak memory of a run on this number of rows, in bytes, and its seconds."""
    with tempfile.TemporaryDirectory() as folder:
        write_data(Path(folder), rows)
        command = [sys.executable, "-m", "mmbert", "train", "recipe.yaml", "--out", "run"]
        paths = os.pathsep.join(filter(None, [os.getcwd(), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "XDG_CACHE_HOME": folder, "PYTHONPATH": paths}
        start, highest = time.monotonic(), 0
        with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL) as run:
            while run.poll() is None:
                highest = max(highest, anonymous_bytes(run.pid))
                time.sleep(INTERVAL)
        if run.returncode:
            raise SystemExit(f"the run on {rows} rows ended with {run.returncode}")
        return highest, time.monotonic() - start


def main() -> int:
    """Measure and print both peaks."""
    peaks = {rows: measure_peak(rows) for rows in ROWS}
    for rows, (highest, seconds) in peaks.items():
        print(f"{rows:>6} rows: peak {highest / 1e6:.1f} MB, {seconds:.0f} s")
    few, many = (peaks[rows][0] for rows in ROWS)
    print(f"ratio {many / few:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
