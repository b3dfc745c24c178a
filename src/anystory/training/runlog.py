"""Losses and pictures of a stage: TensorBoard events where it is installed, JSON lines and PNGs always."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from anystory.files import atomic_write
from anystory.input_files import read_text
from anystory.training.state.train_state import Progress
from anystory.training.validation import draw_validation

LOG = "log.jsonl"


class RunLog:
    """The log of one stage. Records that a stopped run wrote after its last checkpoint are removed, not doubled.

    Args:
        folder: The stage's folder.
        progress: Where the run begins.
        enabled: False in all processes but one: nothing is written.
    """

    def __init__(self, folder: Path, progress: Progress, enabled: bool) -> None:
        self.enabled = enabled
        self.folder = folder
        self.board: Any = None
        if not enabled:
            return
        (folder / "samples").mkdir(parents=True, exist_ok=True)
        self._forget_after(progress.step)
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:  # the `train` extra is not installed: the JSON lines remain
            return
        self.board = SummaryWriter(folder / "tensorboard", purge_step=progress.step + 1)

    def _forget_after(self, step: int) -> None:
        for half in (*self.folder.glob(f".{LOG.partition('.')[0]}.*"), *self.folder.glob(".validation.*")):
            half.unlink(missing_ok=True)  # a killed run was writing it
        path = self.folder / LOG
        if not path.is_file():
            return
        kept = [r for r in read_log(path) if r["step"] <= step]
        with atomic_write(path) as temporary:
            temporary.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")

    def scalars(self, values: dict[str, float], progress: Progress) -> None:
        """Append one record."""
        if not self.enabled:
            return
        record = {"step": progress.step, "samples": progress.samples, "seconds": round(progress.seconds, 1)} | values
        with (self.folder / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        if self.board:
            for key, value in values.items():
                self.board.add_scalar(key, value, progress.step)

    def validation(self, metrics: dict[str, float], progress: Progress) -> None:
        """Append one record of validation's metrics, and draw them over the steps."""
        self.scalars(metrics, progress)
        if self.enabled:
            draw_validation(read_log(self.folder / LOG), self.folder / "validation.png")

    def picture(self, image: Image.Image, progress: Progress) -> None:
        """Keep a sample picture, named by its step."""
        if not self.enabled:
            return
        with atomic_write(self.folder / "samples" / f"{progress.step:07d}.png") as temporary:
            image.save(temporary, format="PNG")
        if self.board:
            self.board.add_image("samples", np.asarray(image.convert("RGB")), progress.step, dataformats="HWC")

    def close(self) -> None:
        """Flush what TensorBoard still holds."""
        if self.board:
            self.board.close()


def read_log(path: Path) -> list[dict[str, float]]:
    """The records of a log, in order; a last line that a killed program left half-written is passed over.

    Raises:
        ValueError: another line is no record.
    """
    records, remedy = [], "move the file away"
    for number, line in enumerate(read_text(path, remedy).split("\n")[:-1], start=1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict) or not isinstance(record.get("step"), int):
            raise ValueError(
                f"{path}, line {number}: {line[:60]!r} is no record of a step: remove the line, or {remedy}"
            )
        records.append(record)
    return records
