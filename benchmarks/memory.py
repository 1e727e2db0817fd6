"""Peak memory of a training run on 8,000 rows of a CSV file against 80,000: text and a table, a tiny trunk, Linux.

    python -m benchmarks.memory

prints both peaks, the sums of RssAnon (memory that no file backs) over the process and its children, and their ratio.
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
INTERVAL = 0.02  # seconds between two looks
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


def write(folder: Path, rows: int) -> None:
    """The recipe and its rows; each row is a function of its number."""
    (folder / "recipe.yaml").write_text(RECIPE)
    words = [f"{first}{last}" for first in ("ab", "cd", "ef", "gh") for last in map(str, range(200))]
    with open(folder / "rows.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "title", "size", "mass", "colour", "price", "kind"])
        for row in range(rows):
            chance = random.Random(row)
            title = " ".join(chance.choices(words, k=12))
            colour, kind = chance.choice(["red", "green", "blue"]), chance.choice(["apple", "pear"])
            numbers = [f"{chance.gauss(0, 1):.6f}" for _ in range(3)]
            table.writerow([f"row{row:08d}", title, numbers[0], numbers[1], colour, numbers[2], kind])


def anonymous(pid: int) -> int:
    """RssAnon of a process and its children, in bytes; 0 for one that is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    own = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")), 0)
    return own + sum(anonymous(int(child)) for child in children)


def peak(rows: int) -> tuple[int, float]:
    """The peak of a run on so many rows, in bytes, and its seconds."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), rows)
        command = [sys.executable, "-m", "mmbert", "train", "recipe.yaml", "--out", "run"]
        paths = os.pathsep.join(filter(None, [os.getcwd(), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "XDG_CACHE_HOME": folder, "PYTHONPATH": paths}
        start, highest = time.monotonic(), 0
        with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL) as run:
            while run.poll() is None:
                highest = max(highest, anonymous(run.pid))
                time.sleep(INTERVAL)
        if run.returncode:
            raise SystemExit(f"the run on {rows} rows ended with {run.returncode}")
        return highest, time.monotonic() - start


def main() -> int:
    found = {rows: peak(rows) for rows in ROWS}
    for rows, (highest, seconds) in found.items():
        print(f"{rows:>6} rows: peak {highest / 1e6:.1f} MB, {seconds:.0f} s")
    few, many = (found[rows][0] for rows in ROWS)
    print(f"ratio {many / few:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
