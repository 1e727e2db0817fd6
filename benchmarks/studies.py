"""How busy a study keeps the processor, and how long a run takes until it trains.

    python -m benchmarks.studies recipes/ablations/joint.yaml --slots 2 --ledger results/studies.csv

Nothing else should run on the machine: busy is what all processes took, of all cores, while every slot had a run.
Start-up is from the start of a run's process (before its imports) to its first line of metrics.jsonl, which follows the
first step.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory

import psutil

from mmbert.tracking.ledger import Measured, append_results

POLL = 0.25  # seconds between looks


def measured(study: str, slots: int) -> dict[str, float]:
    """Runs a study into an empty folder, and looks at its runs while it does."""
    started: dict[Path, float] = {}  # run folder -> when its process began
    first: dict[Path, float] = {}  # run folder -> when its first step was written down
    busy = whole = 0.0
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "mmbert", "ablate", study, "--out", f"{folder}/study", "--slots", str(slots)]
        process = psutil.Popen(command, stdout=subprocess.DEVNULL)
        before, filled = psutil.cpu_times(), False
        while process.poll() is None:
            time.sleep(POLL)
            runs = _runs(process)
            started = {run: runs[run] for run in runs.keys() - started.keys()} | started
            for run in started.keys() - first.keys():
                if (run / "metrics.jsonl").exists():
                    first[run] = (run / "metrics.jsonl").stat().st_mtime
            now = psutil.cpu_times()
            if filled and len(runs) == slots:
                every, idle = sum(now) - sum(before), now.idle + now.iowait - before.idle - before.iowait
                busy, whole = busy + every - idle, whole + every
            before, filled = now, len(runs) == slots
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} failed")
    starts = [first[run] - began for run, began in started.items()]
    return {"busy": busy / whole, "startup_seconds": mean(starts), "startup_seconds_longest": max(starts)}


def _runs(study: psutil.Process) -> dict[Path, float]:
    """The folders of the runs that are running now, and when each began."""
    found = {}
    try:
        for child in study.children():
            words = child.cmdline()
            if "train" in words:
                found[Path(words[words.index("--out") + 1])] = child.create_time()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):  # it has just ended
        pass
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--ledger")
    arguments = parser.parse_args()
    found = measured(arguments.study, arguments.slots)
    for name, value in found.items():
        print(f"{name:<24} {value:.3g}")
    if arguments.ledger:
        name = Path(arguments.study).stem
        append_results(arguments.ledger, {f"{arguments.slots} slots": {name: found}}, Measured("studies", 0, "train"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
