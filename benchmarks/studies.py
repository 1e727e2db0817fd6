"""CPU utilisation of a study, and the start-up time of its runs.

    python -m benchmarks.studies recipes/ablations/joint.yaml --slots 2 --ledger results/studies.csv

Nothing else should run on the machine: ``busy`` is the share of all cores that all processes used while every slot had
a run. Start-up lasts from the start of a run's process (before its imports) to its first line of metrics.jsonl, which
follows the first step.
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

POLL = 0.25  # seconds between two measurements


def measure_study(study: str, slots: int) -> dict[str, float]:
    """Run a study into an empty folder and measure its runs.

    Args:
        study: path of the study file.
        slots: number of runs at the same time.
    """
    started: dict[Path, float] = {}  # run folder -> time when its process started
    first: dict[Path, float] = {}  # run folder -> time when its first step was logged
    busy = total = 0.0
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "mmbert", "ablate", study, "--out", f"{folder}/study", "--slots", str(slots)]
        process = psutil.Popen(command, stdout=subprocess.DEVNULL)
        before, filled = psutil.cpu_times(), False
        while process.poll() is None:
            time.sleep(POLL)
            runs = _running(process)
            started = {run: runs[run] for run in runs.keys() - started.keys()} | started
            for run in started.keys() - first.keys():
                if (run / "metrics.jsonl").exists():
                    first[run] = (run / "metrics.jsonl").stat().st_mtime
            now = psutil.cpu_times()
            if filled and len(runs) == slots:
                elapsed, idle = sum(now) - sum(before), now.idle + now.iowait - before.idle - before.iowait
                busy, total = busy + elapsed - idle, total + elapsed
            before, filled = now, len(runs) == slots
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} failed")
    starts = [first[run] - start for run, start in started.items()]
    return {"busy": busy / total, "startup_seconds": mean(starts), "startup_seconds_longest": max(starts)}


def _running(study: psutil.Process) -> dict[Path, float]:
    """Run folder -> start time, of the runs that are running now."""
    runs = {}
    try:
        for child in study.children():
            words = child.cmdline()
            if "train" in words:
                runs[Path(words[words.index("--out") + 1])] = child.create_time()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):  # the process has just ended
        pass
    return runs


def main() -> int:
    """Measure a study, print and append the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--ledger")
    arguments = parser.parse_args()
    measures = measure_study(arguments.study, arguments.slots)
    for name, value in measures.items():
        print(f"{name:<24} {value:.3g}")
    if arguments.ledger:
        name = Path(arguments.study).stem
        append_results(
            arguments.ledger, {f"{arguments.slots} slots": {name: measures}}, Measured("studies", 0, "train")
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
