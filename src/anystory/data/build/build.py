"""The build: takes the items that are left through the plan, then writes all outcomes as shards."""

from __future__ import annotations

import io
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from anystory.data.build.assemble import REPORT, assemble, check_out, choose
from anystory.data.build.candidates import Rejection
from anystory.data.build.local import run_here, run_in_processes
from anystory.data.build.on_ray import run_on_ray
from anystory.data.build.outcomes import ItemOutcome, WorkFolder
from anystory.data.build.plan import Plan
from anystory.data.build.report import Report
from anystory.data.build.sources.base import Item
from anystory.data.records import check_key

__all__ = ["BuildPlaces", "Runner", "Todo", "build", "find_todo", "runner"]

Runner: TypeAlias = Callable[[Plan, Path, Sequence[Item]], Generator[tuple[Item, bytes], None, None]]
"""Takes items through a plan: each with its outcome, in any order."""

Progress: TypeAlias = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Makes a context that counts to a known end, such as `cli.bar.counting_bar`."""

_ENOUGH = 20
"""Items that must be done before the share of bad ones is checked."""


@contextmanager
def no_progress(name: str, total: int) -> Iterator[Callable[[int], None]]:
    """Shows nothing."""
    yield lambda _: None


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
    """The items of a build."""

    items: tuple[Item, ...]
    """All, in order."""
    left: tuple[Item, ...]
    """Those without a valid outcome."""
    left_out: tuple[Rejection, ...]
    """Files of the source's folder that belong to no item."""


def find_todo(plan: Plan, places: BuildPlaces) -> Todo:
    """List the source's items, and those that are left to do.

    Raises:
        ValueError: see `ItemSource.items`; or the shards' name or folder cannot be used.
    """
    check_key(places.name)
    digest = plan.digest()
    left_out: list[Rejection] = []
    items = tuple(plan.make_source(places.source).items(left_out))
    work = WorkFolder(places.work)
    return Todo(items, tuple(item for item in items if not work.has(item, digest, places.source)), tuple(left_out))


def runner(workers: int, ray: str | None = None, gpus: float = 0.0) -> Runner:
    """The way to take items through the plan: in this process, in several, or on Ray.

    Raises:
        ValueError: fewer than one worker.
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
    progress: Progress = no_progress,
) -> Report:
    """Build the shards. After a kill at any moment the same call resumes, and ends with the same files.

    Args:
        plan: Which source and steps.
        places: Where things lie.
        run: Takes items through the plan; see `runner`.
        most_bad: Share of items, in [0, 1], whose files cannot be used, above which the build stops.
        overwrite: Replace the shards of another build.
        progress: Called with a name and the number of items; its context is given how many are done.

    Raises:
        ValueError: bad options, nothing to read, too many bad items, or no sample came out.
    """
    check_out(places.out, plan.digest(), overwrite)
    todo = find_todo(plan, places)
    work = WorkFolder(places.work)
    lost: dict[str, ItemOutcome] = {}
    tally = Report()
    before = len(todo.items) - len(todo.left)
    running = closing(run(plan, places.source, todo.left))  # workers end with the build, also when it is stopped
    with progress("building", len(todo.items)) as seen, running as results:
        seen(before)
        for done, (item, data) in enumerate(results, 1):
            outcome = ItemOutcome.from_file(io.BytesIO(data), pictures=False)
            if outcome.files or not item.files:
                work.put(item.key, data)
            else:
                lost[item.key] = outcome  # see `failed`: the next build repeats it
            tally.add_rejections(outcome.rejections)
            seen(before + done)
            if done >= _ENOUGH and tally.bad > most_bad * done:
                raise ValueError(_too_bad(tally, done, most_bad))
    chosen, report = choose(work, [item.key for item in todo.items], plan, lost)
    if report.items >= _ENOUGH and report.bad > most_bad * report.items:
        raise ValueError(_too_bad(report, report.items, most_bad))
    report.add_rejections(todo.left_out)
    assemble(work, chosen, report, plan, places.out, places.name, overwrite)
    if not report.samples:
        raise ValueError(
            f"no sample came out of {report.items} items of {places.source}. The most frequent reason is "
            f"{report.most_frequent}. All are counted in {places.out / REPORT}"
        )
    return report


def _too_bad(report: Report, done: int, most: float) -> str:
    return (
        f"stopped: {report.bad} of the first {done} items cannot be used, more than {most:.0%} (--most-bad). "
        f"The most frequent reason is {report.most_frequent}. The same command resumes"
    )
