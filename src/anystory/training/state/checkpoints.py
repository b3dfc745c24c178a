"""A stage's checkpoints: `checkpoints/step-00001234/`, the last few and the best; at least one is whole at any moment.

A new checkpoint appears by one rename; older ones are removed after it. Which one is the best is read from the
checkpoints themselves: `best.json` only tells people.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError

from anystory.files import atomic_folder, atomic_write
from anystory.training.failures import DiskFull, is_disk_full
from anystory.training.state.checkpoint import Metric, damage, read_metric, write_checkpoint
from anystory.training.state.train_state import TrainState

FOLDER = "checkpoints"
STEP = "step-"
"""What the name of a checkpoint's folder begins with, before the step."""
_DAMAGED = "damaged-"


def all_checkpoints(stage: Path) -> list[Path]:
    """Every checkpoint of a stage folder, the oldest first."""
    return sorted(
        path for path in (stage / FOLDER).glob(f"{STEP}*") if path.name.removeprefix(STEP).isdecimal() and path.is_dir()
    )


def find_checkpoint(stage: Path) -> Path | None:
    """The newest checkpoint of a stage folder, unchecked, or None. Nothing is changed on disk."""
    found = all_checkpoints(stage)
    return found[-1] if found else None


def best_checkpoint(stage: Path) -> Path | None:
    """The checkpoint that validated best, or None if none has been validated."""
    best: tuple[Path | None, Metric | None] = None, None
    for path in all_checkpoints(stage):
        try:
            metric = read_metric(path)
        except (ValueError, OSError):  # damaged, which is told when it is to be used
            continue
        if metric is not None and metric.is_better_than(best[1]):
            best = path, metric
    return best[0]


class Checkpoints:
    """The checkpoints of one stage folder. One process at a time writes them; see `find_checkpoint` for the others.

    Args:
        stage: the stage's folder.
        keep_last: how many of the newest are kept, beside the best.
    """

    def __init__(self, stage: Path, keep_last: int = 2) -> None:
        assert keep_last > 0
        self.stage, self.folder, self.keep_last = stage, stage / FOLDER, keep_last
        self._known: set[Path] = set()

    def newest(self) -> Path | None:
        """The newest whole checkpoint. Damaged ones are reported and set aside.

        Raises:
            ValueError: there are checkpoints, and all are damaged; they stay where they are.
        """
        damaged: dict[Path, str] = {}
        for path in reversed(all_checkpoints(self.stage)):
            wrong = damage(path)
            if wrong is None:
                for other, reason in damaged.items():
                    print(f"checkpoint {other} is damaged ({reason}); resuming from {path.name}", file=sys.stderr)
                    other.rename(_free(other.with_name(_DAMAGED + other.name)))
                self._known.add(path)
                return path
            damaged[path] = wrong
        if damaged:
            path, wrong = list(damaged.items())[-1]
            raise ValueError(
                f"checkpoint {path} is damaged ({wrong}), and there is none before it: remove {self.stage} to start "
                "this stage over"
            )
        return None

    def save(self, state: TrainState, metric: Metric | None = None) -> Path:
        """Write a checkpoint, then remove older ones. One of the same step stays as it is.

        On a full disk, all but the last good one and the best go first, and it is tried once more.

        Raises:
            DiskFull: there is still no room; the last good checkpoint is as it was.
            OSError: it cannot be written for another reason.
        """
        self._sweep()
        path = self.folder / f"{STEP}{state.progress.step:08d}"
        if path not in self._known:
            try:
                self._write(path, state, metric)
            except (OSError, SafetensorError) as error:
                if not is_disk_full(error):
                    raise
                self._make_room(error)
                try:
                    self._write(path, state, metric)
                except (OSError, SafetensorError) as again:
                    raise self.no_room(again) from again
            self._known.add(path)
        self._prune(self.keep_last)
        return path

    def best(self) -> Metric | None:
        """The best metric of the checkpoints that are there."""
        path = best_checkpoint(self.stage)
        return read_metric(path) if path else None

    def no_room(self, error: Exception) -> DiskFull:
        """The error of a checkpoint that could not be written."""
        last = find_checkpoint(self.stage)
        kept = f"the last good checkpoint is {last}" if last else "there is no checkpoint yet"
        free = shutil.disk_usage(self.stage).free / 2**20
        return DiskFull(
            f"the disk is full ({free:.0f} MiB free below {self.stage}); {kept}. "
            f"Make room, then resume with `anystory train resume {self.stage.parent}` ({error})"
        )

    def _write(self, path: Path, state: TrainState, metric: Metric | None) -> None:
        with atomic_folder(path) as fresh:
            write_checkpoint(fresh, state, metric)

    def _prune(self, keep: int) -> None:
        """Remove all but the newest `keep` and the best, and what was set aside as damaged."""
        best = best_checkpoint(self.stage)
        for path in all_checkpoints(self.stage)[:-keep]:
            if path != best:
                _remove(path)
        for path in self.folder.glob(f"{_DAMAGED}*"):
            _remove(path)
        if best is not None:
            metric = read_metric(best)
            assert metric is not None
            with atomic_write(self.folder / "best.json") as temporary:
                temporary.write_text(json.dumps({"checkpoint": best.name} | asdict(metric)), encoding="utf-8")

    def _make_room(self, error: Exception) -> None:
        there = all_checkpoints(self.stage)
        best = best_checkpoint(self.stage)
        spare = [path for path in there[:-1] if path != best] + list(self.folder.glob(f"{_DAMAGED}*"))
        if not spare:
            raise self.no_room(error) from error
        for path in spare:
            _remove(path)
        print(f"the disk is full: removed {', '.join(p.name for p in spare)} to make room", file=sys.stderr, flush=True)

    def _sweep(self) -> None:
        """Remove what a killed run left half-written or half-removed."""
        for pattern in (f".{STEP}*.tmp", ".*.gone"):
            for path in self.folder.glob(pattern):
                shutil.rmtree(path, ignore_errors=True)
        for path in self.folder.glob(".best.*.json"):
            path.unlink(missing_ok=True)


def _remove(path: Path) -> None:
    """Delete a folder such that a run killed meanwhile leaves nothing that looks like a checkpoint."""
    gone = _free(path.with_name(f".{path.name}.gone"))
    path.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def _free(path: Path) -> Path:
    """The path, cleared if something is there."""
    shutil.rmtree(path, ignore_errors=True)
    return path
