"""`run.json`: everything a run was started with, so that resuming needs only the run's folder."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from anystory.files import atomic_write
from anystory.input_files import read_object, read_text
from anystory.pipelines.loading.assets import resolve_model
from anystory.training.launch.options import RunOptions
from anystory.training.launch.paths import with_absolute_paths
from anystory.training.model.exports import EXPORTS
from anystory.training.recipe import STAGES, Recipe, StageName
from anystory.training.runlog import LOG
from anystory.version import __version__

RUN_FILE = "run.json"
_NOT_STORED = ("out", "model", "resume", "quiet")
"""Options that follow from the folder's path and the command."""


class RunFile(BaseModel):
    """One `anystory train` command, in full."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    anystory: str = __version__
    """Version of the package."""
    stages: tuple[StageName, ...]
    recipe: Recipe
    options: dict[str, Any]
    """`RunOptions`, without the run's paths."""
    minutes: dict[StageName, float]
    """Budgets that the command names."""
    threads: int = 0
    start: str | None = None
    pack_to: Path | None = None

    @classmethod
    def of(
        cls,
        recipe: Recipe,
        stages: tuple[StageName, ...],
        options: RunOptions,
        minutes: dict[str, float],
        *,
        threads: int = 0,
        start: str | None = None,
        pack_to: Path | None = None,
    ) -> RunFile:
        """A run as a command asks for it; its paths become absolute."""
        return cls(
            stages=stages,
            recipe=with_absolute_paths(recipe),
            options=plain_options(options),
            minutes={name: minutes[name] for name in stages if name in minutes},
            threads=threads,
            start=None if start is None else str(Path(resolve_model(start)).resolve()),
            pack_to=None if pack_to is None else pack_to.resolve(),
        )

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


def check_place(out: Path, *, resume: bool) -> None:
    """Refuse a run folder in which files of somebody else have the names of a run's own: they would be overwritten.

    Args:
        out: the run's folder.
        resume: whether a run is to be resumed there.

    Raises:
        ValueError: it holds such files.
    """
    names = (RUN_FILE, "model", *STAGES)
    there = [name for name in names if _holds_something(out / name)]
    ours = [name for name in there if name == RUN_FILE and _is_run_file(out / name)]
    ours += [name for name in there if (out / name / LOG).is_file() or (out / name / EXPORTS).is_file()]
    foreign = [name for name in there if name not in ours]
    if foreign and not ours:
        raise ValueError(
            f"{out} holds {', '.join(foreign)}, which no training run wrote and this one would overwrite: name another "
            f"--out{' to begin a run' if resume else ''}"
        )


def _holds_something(path: Path) -> bool:
    return any(path.iterdir()) if path.is_dir() else os.path.lexists(path)


def _is_run_file(path: Path) -> bool:
    """Whether a file is a run's, of any version."""
    try:
        return {"recipe", "stages"} <= read_object(path).keys()
    except (ValueError, OSError):
        return False


def plain_options(options: RunOptions) -> dict[str, Any]:
    """The options that a run file stores, as JSON's types."""
    values = TypeAdapter(RunOptions).dump_python(options, mode="json")
    return {field.name: values[field.name] for field in fields(options) if field.name not in _NOT_STORED}


def read_run_file(out: Path) -> RunFile:
    """What the run in folder `out` was started with.

    Raises:
        ValueError: there is no such file, or this version cannot read it.
    """
    path = out / RUN_FILE
    if not path.exists():
        raise ValueError(f"{out} is not the folder of a training run: it has no {RUN_FILE}")
    text = read_text(path, "repeat the run's command with --resume")
    try:
        return RunFile.model_validate_json(text)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:3])
        raise ValueError(
            f"{path} does not fit this version of anystory ({__version__}): {problems}. "
            "Repeat the run's command with --resume"
        ) from error
