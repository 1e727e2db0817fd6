"""The planned runs of a study: their identity, state, results, and locks between studies."""

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
    """One arm with one seed."""

    arm: Arm
    seed: int
    recipe: Recipe
    folder: Path
    identity: str  # the hash of its recipe with resolved steps, as in result.json
    data: str  # the fingerprint of its data
    steps: int

    @property
    def label(self) -> str:
        """Its name in messages."""
        return f"{self.arm.name}, seed {self.seed}"

    def result(self) -> dict[str, Any] | None:
        """Return ``result.json`` if the run of this recipe, data and code epoch is finished, else None."""
        result, data = read_json(self.folder / "result.json"), read_json(self.folder / "data.json")
        key = result.get("recipe"), result.get("epoch"), data.get("fingerprint")
        return result if key == (self.identity, CODE_EPOCH, self.data) else None

    def failure(self) -> str:
        """Return why the run failed; empty if it did not."""
        status = read_json(self.folder / "status.json")
        return str(status.get("reason") or FAILED) if status.get("state") == FAILED else ""

    def exit_code(self) -> int:
        """Return the last exit code of the run; 70 if it wrote none."""
        return int(read_json(self.folder / "status.json").get("code") or 70)

    def state(self) -> str:
        """Return ``done``, ``failed``, ``running`` or ``waiting``."""
        if self.result() is not None:
            return "done"
        status = read_json(self.folder / "status.json")
        if status.get("state") == "running":
            return "running" if held(self.folder) else "waiting"
        return FAILED if status.get("state") == FAILED else "waiting"

    def last_step(self) -> int:
        """Return the last step in the log; 0 if there is none."""
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
        """Return the scores on the test split, or on validation if no test row has a label; None if there are none.

        Args:
            masks: the input that is hidden; empty for none.
        """
        result = self.result()
        if result is None:
            return None
        return result["hidden"].get(f"mmbert without {masks}") if masks else result[result.get("split", "test")]

    def claim(self) -> FileLock | None:
        """Return a lock to hold during the run, so that no other study starts it; None if another study holds it."""
        lock = FileLock(self.folder.parent / ".claims" / f"{self.folder.name}.lock")
        Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return None
        return lock

    def holder(self) -> str:
        """Return which process runs it now, in words."""
        status = read_json(self.folder / "status.json")
        if status.get("state") != "running":
            return "another study"
        return f"process {status.get('pid')} on {status.get('host')}, started {status.get('started')}"


def folder_name(recipe: Recipe, data: str) -> str:
    """Return the name of a run folder, unique for a recipe, data and code epoch.

    Args:
        recipe: with its seed.
        data: the fingerprint of the data.
    """
    content = f"{recipe_hash(recipe)} {data} {CODE_EPOCH}"
    return f"{recipe.name}-{hashlib.blake2b(content.encode(), digest_size=4).hexdigest()}"
