"""Which stage wrote which weights into a model folder, and on which earlier ones: so that nothing goes stale unseen."""

from __future__ import annotations

import json
from pathlib import Path

from anystory.files import atomic_write
from anystory.input_files import read_object
from anystory.training.recipe import STAGES, StageName

EXPORTS = "training.json"

INPUTS: dict[StageName, tuple[StageName, ...]] = {
    "vae": (),
    "decoder": ("vae",),
    "clip": (),
    "base": ("vae", "clip"),
    "encoder": ("vae", "clip", "base"),
    "router": ("vae", "clip", "base", "encoder"),
}
"""Stages whose weights a stage is trained on."""


def exported_steps(model: Path) -> dict[str, int]:
    """The step at which each stage last wrote its weights into the folder.

    Raises:
        ValueError: the file that says so is damaged.
    """
    return {stage: entry["step"] for stage, entry in _read(model).items()}


def note_export(model: Path, stage: StageName, step: int) -> None:
    """Remember that `stage` wrote its weights of `step`, trained on what the folder holds of its inputs."""
    entries = _read(model)
    on = {name: entries[name]["step"] for name in INPUTS[stage] if name in entries}
    entries[stage] = {"step": step, "on": on}
    with atomic_write(model / EXPORTS) as temporary:
        temporary.write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")


def stale_stages(model: Path) -> list[str]:
    """Stages that were trained on weights which an earlier stage has replaced since, in order."""
    entries = _read(model)
    return [
        stage
        for stage in STAGES
        if stage in entries
        and any(name in entries and entries[name]["step"] != step for name, step in entries[stage]["on"].items())
    ]


def _read(model: Path) -> dict[str, dict]:
    path, remedy = model / EXPORTS, "remove it, and each stage that is resumed writes its weights and its entry again"
    entries = read_object(path, remedy) if path.exists() else {}
    for stage, entry in entries.items():
        on = entry.get("on") if isinstance(entry, dict) else None
        if not isinstance(on, dict) or not all(isinstance(step, int) for step in (entry.get("step"), *on.values())):
            raise ValueError(f"{path} is damaged (at {stage!r}): {remedy}")
    return entries
