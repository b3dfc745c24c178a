"""Which stage wrote which weights into a model folder, and on which earlier ones: so that nothing goes stale unseen."""

from __future__ import annotations

import json
from pathlib import Path

from anystory.files import atomic_write

from .recipe import STAGES, StageName

_FILE = "training.json"

INPUTS: dict[StageName, tuple[StageName, ...]] = {
    "vae": (),
    "clip": (),
    "base": ("vae", "clip"),
    "encoder": ("vae", "clip", "base"),
    "router": ("vae", "clip", "base", "encoder"),
}
"""Stages whose weights a stage is trained on."""


def exported_steps(model: Path) -> dict[str, int]:
    """The step at which each stage last wrote its weights into the folder."""
    return {stage: entry["step"] for stage, entry in _read(model).items()}


def note_export(model: Path, stage: StageName, step: int) -> None:
    """Remember that `stage` wrote its weights of `step`, trained on what the folder holds of its inputs."""
    entries = _read(model)
    on = {name: entries[name]["step"] for name in INPUTS[stage] if name in entries}
    entries[stage] = {"step": step, "on": on}
    with atomic_write(model / _FILE) as temporary:
        temporary.write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")


def stale_stages(model: Path) -> list[str]:
    """Stages that were trained on weights which an earlier stage has replaced since, in order."""
    entries = _read(model)
    return [
        stage
        for stage in STAGES
        if stage in entries and any(entries[name]["step"] != step for name, step in entries[stage]["on"].items())
    ]


def _read(model: Path) -> dict[str, dict]:
    path = model / _FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
