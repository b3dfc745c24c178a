"""What is left to be drawn of a book."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from anystory.engine.limits import MOST_SEED
from anystory.story.book_folder import panel_folder, panels_folder, read_candidates
from anystory.story.runner.keeping import free_candidate, keep_copy
from anystory.story.runner.plan import PanelPlan

__all__ = ["PanelTask", "open_tasks", "without_found"]


@dataclass(frozen=True, kw_only=True)
class PanelTask:
    """A candidate to be drawn."""

    plan: PanelPlan
    seed: int
    number: int
    """Of the candidate."""


def open_tasks(
    book: Path, plans: Sequence[PanelPlan], panels: Collection[int] | None = None, best_of: int = 1
) -> list[PanelTask]:
    """What is left to be drawn: each (key, seed) once.

    Args:
        book: The book's folder.
        plans: All panels.
        panels: Numbers of those to draw; None for all.
        best_of: Candidates for each panel.
    """
    tasks: list[PanelTask] = []
    planned: set[str] = set()
    for plan in plans:
        if plan.key in planned or (panels is not None and plan.number not in panels):
            continue
        planned.add(plan.key)
        there = read_candidates(panel_folder(book, plan.key))
        drawn = {candidate.facts.seed for candidate in there if candidate.facts.origin != "redraw"}
        free = free_candidate(book, plan.key)
        seeds = [(plan.seed + more) % (MOST_SEED + 1) for more in range(best_of)]
        missing = [seed for seed in seeds if seed not in drawn]
        tasks += [PanelTask(plan=plan, seed=seed, number=free + i) for i, seed in enumerate(missing)]
    return tasks


def without_found(book: Path, tasks: Sequence[PanelTask]) -> list[PanelTask]:
    """The tasks whose picture is not there yet, under another seed of the story; those that are become candidates.

    Raises:
        ValueError: a damaged candidate.
        OSError: a candidate cannot be copied.
    """
    there = {
        (candidate.facts.base, candidate.facts.seed): candidate
        for folder in (panels_folder(book).iterdir() if tasks and panels_folder(book).is_dir() else ())
        for candidate in read_candidates(folder)
        if candidate.facts.origin != "redraw" and candidate.facts.base is not None
    }
    left = []
    for task in tasks:
        found = there.get((task.plan.base, task.seed))
        if found is None:
            left.append(task)
        else:
            keep_copy(book, task.plan.key, task.number, found)
    return left
