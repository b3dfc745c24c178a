"""The build: items that are not done yet through the plan, then all outcomes into shards."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from rich.progress import MofNCompleteColumn

from anystory.data.build.assemble import REPORT, assemble, check_out, choose
from anystory.data.build.local import run_here, run_in_processes
from anystory.data.build.on_ray import run_on_ray
from anystory.data.build.outcomes import Outcome, WorkFolder
from anystory.data.build.plan import Plan
from anystory.data.build.report import Report
from anystory.data.build.sources.base import Item
from anystory.data.records import check_key
from anystory.progress import LoggedBar

__all__ = ["BuildPlaces", "Runner", "Todo", "build", "find_todo", "runner"]

Runner: TypeAlias = Callable[[Plan, Path, Sequence[Item]], Generator[tuple[Item, bytes], None, None]]
"""Takes items through a plan: each with its outcome, in any order."""

_ENOUGH = 20
"""Items that must be done before the share of bad ones says anything."""


@dataclass(frozen=True)
class BuildPlaces:
    """Which folders a build reads and writes."""

    source: Path
    out: Path
    work: Path
    name: str = "samples"
    """Stem of the shards' names."""


@dataclass(frozen=True)
class Todo:
    """What there is to do."""

    items: tuple[Item, ...]
    """All, in order."""
    left: tuple[Item, ...]
    """Those without an outcome that holds."""


def find_todo(plan: Plan, places: BuildPlaces) -> Todo:
    """List the source and look which items are done.

    Raises:
        ValueError: see `Source.items`; or the shards' name or folder cannot be used.
    """
    check_key(places.name)
    digest = plan.digest()
    items = tuple(plan.make_source(places.source).items())
    work = WorkFolder(places.work)
    return Todo(items, tuple(item for item in items if not work.has(item, digest, places.source)))


def runner(workers: int, ray: str | None = None, gpus: float = 0.0) -> Runner:
    """Who takes the items through the plan.

    Raises:
        ValueError: less than one worker.
    """
    if ray is not None:
        return lambda plan, folder, items: run_on_ray(plan, folder, items, ray, gpus=gpus)
    if workers < 1:
        raise ValueError(f"--workers must be at least 1, got {workers}")
    if workers == 1:
        return run_here
    return lambda plan, folder, items: run_in_processes(plan, folder, items, workers)


def build(
    plan: Plan,
    places: BuildPlaces,
    run: Runner = run_here,
    *,
    most_bad: float = 0.1,
    overwrite: bool = False,
    quiet: bool = False,
) -> Report:
    """Build the shards. Killed at any moment, the same call goes on and ends with the same files.

    Args:
        plan: Which source and steps.
        places: Where things lie.
        run: Who does it; see `runner`.
        most_bad: Share of items, in [0, 1], whose files cannot be used, above which the build stops.
        overwrite: Replace the shards of another build.
        quiet: Show no progress.

    Raises:
        ValueError: bad options, nothing to read, too many bad items, or no sample came out.
    """
    check_out(places.out, plan.digest(), overwrite)
    todo = find_todo(plan, places)
    work = WorkFolder(places.work)
    lost: dict[str, Outcome] = {}
    tally = Report()
    running = closing(run(plan, places.source, todo.left))  # workers end with the build, also when it is stopped
    with _Progress(len(todo.items), len(todo.left), enabled=not quiet) as bar, running as results:
        for done, (item, data) in enumerate(results, 1):
            outcome = _header(data)
            if outcome.files or not item.files:
                work.put(item.key, data)
            else:
                lost[item.key] = outcome  # see `failed`: the next build tries it again
            tally.add_rejections(outcome.rejections)
            bar.update(done)
            if done >= _ENOUGH and tally.bad > most_bad * done:
                raise ValueError(_too_bad(tally, done, most_bad))
    chosen, report = choose(work, [item.key for item in todo.items], plan, lost)
    if report.items >= _ENOUGH and report.bad > most_bad * report.items:
        raise ValueError(_too_bad(report, report.items, most_bad))
    assemble(work, chosen, report, plan, places.out, places.name, overwrite)
    if not report.samples:
        raise ValueError(
            f"no sample came out of {report.items} items of {places.source}. The commonest reason is "
            f"{report.commonest}. All are counted in {places.out / REPORT}"
        )
    return report


def _too_bad(report: Report, done: int, most: float) -> str:
    return (
        f"stopped: {report.bad} of the first {done} items cannot be used, more than {most:.0%} (--most-bad). "
        f"The commonest reason is {report.commonest}. What is done is kept: the same command goes on"
    )


def _header(data: bytes) -> Outcome:
    return Outcome.from_file(io.BytesIO(data), pictures=False)


class _Progress(LoggedBar):
    """Items done, with the time left."""

    def __init__(self, items: int, left: int, enabled: bool) -> None:
        super().__init__("building", left, MofNCompleteColumn(), enabled=enabled)
        self.left = left
        if enabled and left < items:
            print(f"{items - left} of {items} items are done already", file=sys.stderr, flush=True)

    def update(self, done: int) -> None:
        """Show how many are done."""
        self.bar.update(self.task, completed=done)
        if self.line_is_due(anyway=done == self.left):
            print(f"[building] {done} of {self.left} items", file=sys.stderr, flush=True)
