"""A stage's checkpoints: `checkpoints/step-00001234/`, the last few and the best, at every moment at least one whole.

A new one is written beside the others and appears by one rename; older ones go only then. Which one is the best is read
from the checkpoints themselves, so no pointer can be lost: `best.json` only tells people.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError

from anystory.files import atomic_folder, atomic_write, recover_folder

from .checkpoint import (
    PROGRESS,
    Figure,
    Progress,
    TrainingState,
    damage,
    read_figure,
    read_progress,
    write_checkpoint,
    write_manifest,
)
from .failures import DiskFull, is_disk_full

FOLDER = "checkpoints"
FORMER = "checkpoint"
"""Where earlier runs kept their only checkpoint; it is read, and moved to the others when the next one is written."""
STEP = "step-"
"""What the name of a checkpoint's folder begins with, before the step."""
_DAMAGED = "damaged-"


def all_checkpoints(stage: Path) -> list[Path]:
    """Every checkpoint of either layout, the oldest first."""
    found = sorted(path for path in (stage / FOLDER).glob(f"{STEP}*") if (path / PROGRESS).is_file())
    for former in (stage / FORMER, stage / f".{FORMER}.old"):  # the second: killed between two renames
        if (former / PROGRESS).is_file():
            step = read_progress(former).step
            older = [path for path in found if int(path.name.removeprefix(STEP)) < step]
            found.insert(len(older), former)
            break
    return found


def find_checkpoint(stage: Path) -> Path | None:
    """The newest checkpoint of a stage folder, unchecked, or None. Nothing is changed on disk."""
    found = all_checkpoints(stage)
    return found[-1] if found else None


def best_checkpoint(stage: Path) -> Path | None:
    """The checkpoint that validated best, or None if none has been validated."""
    best: tuple[Path | None, Figure | None] = None, None
    for path in all_checkpoints(stage):
        try:
            figure = read_figure(path)
        except (ValueError, AttributeError, TypeError):  # damaged, which is told when it is to be used
            continue
        if figure is not None and figure.beats(best[1]):
            best = path, figure
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
        """The newest whole checkpoint. Damaged ones are told of and set aside, and the one before is taken.

        Raises:
            ValueError: there are checkpoints, and all are damaged.
        """
        recover_folder(self.stage / FORMER)
        told = ""
        for path in reversed(all_checkpoints(self.stage)):
            wrong = None if path.name == FORMER else damage(path)
            if wrong is None:
                if told:
                    print(f"{told}; going on from {path.name}", file=sys.stderr, flush=True)
                self._known.add(path)
                return path
            told = f"checkpoint {path} is damaged ({wrong})"
            path.rename(_free(path.with_name(_DAMAGED + path.name)))
        if told:
            raise ValueError(f"{told}, and there is none before it: remove {self.stage} to start this stage over")
        return None

    def save(self, state: TrainingState, progress: Progress, figure: Figure | None = None) -> Path:
        """Write a checkpoint of `progress.step`, then let older ones go. One of that step that is there stays.

        On a full disk, older ones than the last good one go first, all but the best, and it is tried once more.

        Raises:
            DiskFull: there is still no room; the last good checkpoint is as it was.
            OSError: it cannot be written for another reason.
        """
        self._adopt_former()
        self._sweep()
        path = self.folder / f"{STEP}{progress.step:08d}"
        if path not in self._known:
            try:
                self._write(path, state, progress, figure)
            except (OSError, SafetensorError) as error:
                if not is_disk_full(error):
                    raise
                self._make_room(error)
                try:
                    self._write(path, state, progress, figure)
                except (OSError, SafetensorError) as again:
                    raise self.no_room(again) from again
            self._known.add(path)
        self._prune(self.keep_last)
        return path

    def best(self) -> Figure | None:
        """The best figure of the checkpoints that are there."""
        path = best_checkpoint(self.stage)
        return read_figure(path) if path else None

    def no_room(self, error: Exception) -> DiskFull:
        """What a person is told when nothing could be written."""
        last = find_checkpoint(self.stage)
        kept = f"the last good checkpoint is {last}" if last else "there is no checkpoint yet"
        free = shutil.disk_usage(self.stage).free / 2**20
        return DiskFull(
            f"the disk is full ({free:.0f} MiB free below {self.stage}); {kept}. "
            f"Make room, then go on with anystory train resume {self.stage.parent} ({error})"
        )

    def _write(self, path: Path, state: TrainingState, progress: Progress, figure: Figure | None) -> None:
        with atomic_folder(path) as fresh:
            write_checkpoint(fresh, state, progress, figure)

    def _prune(self, keep: int) -> None:
        """Remove all but the newest `keep` and the best, and what was set aside as damaged."""
        best = best_checkpoint(self.stage)
        for path in all_checkpoints(self.stage)[:-keep]:
            if path != best:
                _remove(path)
        for path in self.folder.glob(f"{_DAMAGED}*"):
            _remove(path)
        if best is not None:
            figure = read_figure(best)
            assert figure is not None
            with atomic_write(self.folder / "best.json") as temporary:
                temporary.write_text(json.dumps({"checkpoint": best.name} | asdict(figure)), encoding="utf-8")

    def _make_room(self, error: Exception) -> None:
        there = all_checkpoints(self.stage)
        best = best_checkpoint(self.stage)
        spare = [path for path in there[:-1] if path != best] + list(self.folder.glob(f"{_DAMAGED}*"))
        if not spare:
            raise self.no_room(error) from error
        for path in spare:
            _remove(path)
        print(f"the disk is full: removed {', '.join(p.name for p in spare)} to make room", file=sys.stderr, flush=True)

    def _adopt_former(self) -> None:
        """Give a checkpoint of the former layout its manifest and its place among the others."""
        former = self.stage / FORMER
        if not (former / PROGRESS).is_file():
            return
        place = self.folder / f"{STEP}{read_progress(former).step:08d}"
        if place.exists():
            _remove(former)
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        write_manifest(former)
        former.rename(place)
        if former in self._known:
            self._known.add(place)

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
