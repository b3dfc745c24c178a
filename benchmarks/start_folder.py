"""A model folder to begin a comparison from: what `fresh_router.py` and `stage1_start.py` write."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

from anystory.files import atomic_folder
from anystory.models import SubjectAdapter
from anystory.pipelines.loading.assets import resolve_model
from anystory.training.recipe import load_recipe

RARELY = {"validate_samples": 64, "validate_every": 250, "sample_every": 100_000}
"""How often a compared stage looks up from its training."""


def check_new(out: Path) -> None:
    """Ends the script if the folder exists."""
    if out.exists():
        raise SystemExit(f"{out} exists already: name another folder")


def recipe_values(name: str, stage: str) -> dict[str, Any]:
    """A recipe as plain values, with a stage that validates rarely."""
    values = load_recipe(name).model_dump(mode="json")
    values["stages"][stage] |= RARELY
    return values


def write_start(out: Path, model: str, values: dict[str, Any], adapter: SubjectAdapter | None = None) -> None:
    """Write a model's folder with another adapter, or without one, and the recipe beside it as recipe.yaml."""
    with atomic_folder(out) as folder:
        shutil.copytree(Path(resolve_model(model)), folder, dirs_exist_ok=True)
        shutil.rmtree(folder / "adapter")
        if adapter is not None:
            adapter.save_pretrained(folder / "adapter")
        (folder / "recipe.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
