"""`run.json`: everything a run was started with, so that resuming needs the run's folder and nothing else."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

import anystory
from anystory.files import atomic_write

from .options import RunOptions
from .recipe import Recipe, StageName

RUN_FILE = "run.json"
_PLACES = ("out", "model", "resume", "quiet")
"""What the folder's place and the command say, not the file."""


class RunFile(BaseModel):
    """One `anystory train` command, in full."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    anystory: str = anystory.__version__
    """Version of the package."""
    stages: tuple[StageName, ...]
    recipe: Recipe
    options: dict[str, Any]
    """`RunOptions` but for the places."""
    minutes: dict[StageName, float]
    """Budgets that the command names."""
    threads: int = 0
    start: str | None = None
    pack_to: Path | None = None

    def run_options(self, out: Path, *, resume: bool, quiet: bool = False) -> RunOptions:
        """The options, for a run in folder `out`.

        Raises:
            ValueError: an option has a value that this version does not know.
        """
        plain = {"out": out, "model": out / "model", "resume": resume, "quiet": quiet}
        return TypeAdapter(RunOptions).validate_python(self.options | plain)

    def write(self, out: Path) -> None:
        """Write `out / run.json`, whole or not at all."""
        with atomic_write(out / RUN_FILE) as temporary:
            temporary.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")


def plain_options(options: RunOptions) -> dict[str, Any]:
    """What a run file keeps of the options, as JSON's types."""
    values = TypeAdapter(RunOptions).dump_python(options, mode="json")
    return {field.name: values[field.name] for field in fields(options) if field.name not in _PLACES}


def read_run_file(out: Path) -> RunFile:
    """What the run in folder `out` was started with.

    Raises:
        ValueError: there is no such file, or this version cannot read it.
    """
    path = out / RUN_FILE
    if not path.is_file():
        stages = [p.name for p in sorted(out.glob("*")) if (p / "log.jsonl").is_file()] if out.is_dir() else []
        if stages:
            raise ValueError(
                f"{out} holds {', '.join(stages)} but no {RUN_FILE}: an earlier version started the run. Give its "
                f"own command once more, with --resume: anystory train CONFIG --out {out} --resume"
            )
        raise ValueError(f"{out} is not the folder of a training run: it has no {RUN_FILE}")
    text = path.read_text(encoding="utf-8")
    try:
        return RunFile.model_validate_json(text)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:3])
        raise ValueError(
            f"{path} does not fit this version of anystory ({anystory.__version__}): {problems}. "
            "Give the run's command once more, with --resume"
        ) from error
