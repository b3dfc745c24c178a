"""A story rendered: every panel that is not drawn yet, each on disk as soon as it is done.

for event in …: see `render`, which reports to `on_event`
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anystory.engine.backends.registry import backend_of
from anystory.engine.cancelling import CancelToken
from anystory.engine.drawing import load
from anystory.engine.encodings import Encodings
from anystory.engine.options import ModelOptions
from anystory.story.book_folder import BOOK_FORMAT, BookIndex, IndexEntry, PanelCandidate, read_book, save_index
from anystory.story.check import check_story
from anystory.story.consistency.scoring import score_book
from anystory.story.model_facts import model_digest, model_facts
from anystory.story.positions import Problem, StoryProblems
from anystory.story.reading import StoryFile
from anystory.story.runner.drawing import RenderEvent, draw_tasks
from anystory.story.runner.keeping import book_writer, keep_files
from anystory.story.runner.on_ray import ray_pool, with_absolute_paths
from anystory.story.runner.parallel import draw_in_parallel, process_pool
from anystory.story.runner.plan import PanelPlan, plan_panels
from anystory.story.runner.tasks import PanelTask, open_tasks, without_found

if TYPE_CHECKING:
    from anystory.engine.backends.base import DrawnPicture, Model

__all__ = ["Rendered", "prepare_book", "render_story"]


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """What a render did."""

    drawn: tuple[PanelCandidate, ...]
    """New candidates."""
    kept: int
    """Panels, of those asked for, that needed none."""


def render_story(
    file: StoryFile,
    book: Path,
    options: ModelOptions,
    *,
    panels: Collection[int] | None = None,
    best_of: int = 1,
    jobs: int = 1,
    ray: str | None = None,
    steps: int | None = None,
    sheet: bool = True,
    load: Callable[[ModelOptions], Model] = load,
    on_warning: Callable[[Problem], None] = lambda problem: None,
    on_event: Callable[[RenderEvent], None] = lambda event: None,
    cancel: CancelToken | None = None,
    screen: Callable[[DrawnPicture], DrawnPicture] | None = None,
) -> Rendered:
    """Check a story, and draw what of it is not drawn yet.

    Args:
        file: The story.
        book: The book's folder; made if missing.
        options: Which model draws, and how it is run.
        panels: Numbers of those to draw, from 1; None for all.
        best_of: Candidates of each panel, of which the book shows the best.
        jobs: Processes that draw, each with a model of its own.
        ray: Address of a Ray cluster whose machines draw, in place of processes; see `ray_pool.connect`.
        steps: Sampling steps of all panels, in place of the story's.
        sheet, cancel, screen: See `draw_tasks`; `screen` is for this process: other processes and machines have none.
        load: Loads the model; it is called only if something is to be drawn in this process.
        on_warning: Called with what may be meant otherwise, before anything is drawn.
        on_event: Called after each step and each candidate.

    Raises:
        StoryProblems: everything that is wrong with the story.
        ValueError: another program is writing into the book, or no such panel or model.
        Cancelled, FloatingPointError, OSError: see `draw_tasks`.
    """
    if wrong := sorted(number for number in panels or () if not 1 <= number <= len(file.story.panels)):
        raise ValueError(f"{file.path} has panels 1 to {len(file.story.panels)}, there is no panel {wrong[0]}")
    model = _checked(file, options, load, on_warning)
    with book_writer(book):
        plans = prepare_book(file, book, options, steps=steps)
        tasks = without_found(book, open_tasks(book, plans, panels, best_of))
        drawn: list[PanelCandidate] = []
        if tasks:
            encodings = Encodings()
            _read_cast(file, tasks, encodings)
            told: dict[str, Any] = {"on_event": on_event, "cancel": cancel}
            if ray is not None:
                drawn = _draw_on_ray(book, tasks, options, ray, sheet=sheet, **told)
            elif min(jobs, len(tasks)) > 1:
                pool = process_pool(book, options, min(jobs, len(tasks)), sheet=sheet)
                drawn = draw_in_parallel(tasks, pool, keep=lambda task, candidate: candidate, **told)
            else:
                drawn = draw_tasks(book, tasks, model or load(options), encodings, sheet=sheet, screen=screen, **told)
        if best_of > 1:
            score_book(read_book(book))
    asked = {plan.key for plan in plans if panels is None or plan.number in panels}
    return Rendered(drawn=tuple(drawn), kept=len(asked - {task.plan.key for task in tasks}))


def _checked(
    file: StoryFile,
    options: ModelOptions,
    load: Callable[[ModelOptions], Model],
    on_warning: Callable[[Problem], None],
) -> Model | None:
    """Check a story; the model, if it had to be loaded for that."""
    facts, model = model_facts(options), None
    if facts is None:  # it has to be downloaded before anything is known of it
        model = load(options)
        facts = model_facts(options)
    findings = check_story(file, facts)
    for warning in findings.warnings:
        on_warning(warning)
    findings.raise_errors()
    return model


def _read_cast(file: StoryFile, tasks: Sequence[PanelTask], encodings: Encodings) -> None:
    """Refuse pictures that cannot be used, before a model is loaded."""
    wrong = []
    for plan in (task.plan for task in tasks):
        for member, subject in zip(plan.subjects, plan.job.subjects, strict=True):
            if (text := encodings.fault(subject)) is not None:
                wrong.append(file.problem("cast", member, "photos", text=text))
    if wrong:
        raise StoryProblems(dict.fromkeys(wrong))


def _draw_on_ray(
    book: Path, tasks: Sequence[PanelTask], options: ModelOptions, address: str, *, sheet: bool, **told: Any
) -> list[PanelCandidate]:
    """Draw on the machines of a cluster; this process writes the book."""
    tasks = [with_absolute_paths(task) for task in tasks]

    def keep(task: PanelTask, files: dict[str, bytes]) -> PanelCandidate:
        return keep_files(book, task.plan.key, task.number, files)

    return draw_in_parallel(tasks, ray_pool(tasks, options, address, sheet=sheet), keep=keep, **told)


def prepare_book(
    file: StoryFile, book: Path, options: ModelOptions, *, steps: int | None = None, digest: str | None = None
) -> list[PanelPlan]:
    """Plan a story's panels and write the book's index, so that it can be read from now on.

    Args:
        file, book, options, steps: See `render_story`.
        digest: Of the model, if the caller knows it: large models take long to hash.

    Raises:
        StoryProblems: a panel that cannot be drawn.
        OSError: a picture cannot be read, or the book cannot be written.
    """
    backend = backend_of(options.model)
    digest = digest or model_digest(options)
    plans = plan_panels(file, book, digest, backgrounds=backend.has_background, steps=steps, check=backend.check_job)
    entries = tuple(IndexEntry(key=plan.key, prompt=plan.job.prompt, subjects=plan.subjects) for plan in plans)
    index = BookIndex(
        format=BOOK_FORMAT,
        source=str(file.path.absolute()),
        story=file.story,
        model=options.absolute().recorded,
        panels=entries,
    )
    save_index(book, index)
    return plans
