"""The runs of a study: which there are, how each stands, and whose turn it is."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mmbert.ablation.study import Arm
from mmbert.recipe.schema import Recipe
from mmbert.recipe.serialize import recipe_hash
from mmbert.tracking.outcome import Scores
from mmbert.tracking.run_folder import read_json
from mmbert.tracking.status import held
from mmbert.version import CODE_EPOCH

FAILED = "failed"


@dataclass(frozen=True)
class PlannedRun:
    """An arm with a seed."""

    arm: Arm
    seed: int
    recipe: Recipe
    folder: Path
    identity: str  # the hash of its recipe in steps, as results name it
    data: str  # the fingerprint of its data
    steps: int

    @property
    def label(self) -> str:
        return f"{self.arm.name}, seed {self.seed}"

    def result(self) -> dict[str, Any] | None:
        """What ``result.json`` holds, if the run of this recipe, data and code epoch has ended."""
        found, data = read_json(self.folder / "result.json"), read_json(self.folder / "data.json")
        own = found.get("recipe"), found.get("epoch"), data.get("fingerprint")
        return found if own == (self.identity, CODE_EPOCH, self.data) else None

    def failure(self) -> str:
        """Why the run failed; empty where it did not."""
        status = read_json(self.folder / "status.json")
        return str(status.get("reason") or FAILED) if status.get("state") == FAILED else ""

    def exit_code(self) -> int:
        """The code with which it ended last; 70 where it left none."""
        return int(read_json(self.folder / "status.json").get("code") or 70)

    def state(self) -> str:
        """done, failed, running or waiting."""
        if self.result() is not None:
            return "done"
        status = read_json(self.folder / "status.json")
        if status.get("state") == "running":
            return "running" if held(self.folder) else "waiting"
        return FAILED if status.get("state") == FAILED else "waiting"

    def step(self) -> int:
        """The last step that was logged."""
        try:
            with open(self.folder / "metrics.jsonl", "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - 4096))
                lines = file.read().splitlines()
        except OSError:
            return 0
        for line in reversed(lines):
            try:
                return int(json.loads(line)["step"])
            except (ValueError, KeyError, TypeError):
                continue
        return 0

    def scores(self, masks: str = "") -> Scores | None:
        """The test scores, an input taken away if ``masks`` names one; None where there are none."""
        result = self.result()
        if result is None:
            return None
        return result["hidden"].get(f"mmbert without {masks}") if masks else result["test"]

    def claim(self) -> FileLock | None:
        """A lock, to be held while the run runs: no other study starts it; None where another one holds it."""
        lock = FileLock(self.folder.parent / ".claims" / f"{self.folder.name}.lock")
        Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return None
        return lock

    def holder(self) -> str:
        """Who runs it now, in words."""
        status = read_json(self.folder / "status.json")
        if status.get("state") != "running":
            return "another study"
        return f"process {status.get('pid')} on {status.get('host')}, started {status.get('started')}"


def folder_name(recipe: Recipe, data: str) -> str:
    """A name that is the same for the same recipe, data and code epoch, and for no others."""
    content = f"{recipe_hash(recipe)} {data} {CODE_EPOCH}"
    return f"{recipe.name}-{hashlib.blake2b(content.encode(), digest_size=4).hexdigest()}"
