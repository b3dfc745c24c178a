"""The bar of a job that is drawn, on standard error. Nothing heavy is imported before it is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from anystory.engine.events import Event, StepDone

__all__ = ["drawing_bar"]


@contextmanager
def drawing_bar(title: str) -> Iterator[Callable[[Event], None]]:
    """Yield what shows a job's events: a bar over all steps of all pictures, on a terminal; elsewhere nothing.

    Args:
        title: What stands before the bar.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}"))
    console = Console(stderr=True)
    # Hands off stdout, which may be a file or another program.
    quiet: Any = {"transient": True, "redirect_stdout": False, "disable": not console.is_terminal}
    with Progress(*columns, console=console, **quiet) as progress:
        task = progress.add_task(title, total=None, left="")

        def show(event: Event) -> None:
            if isinstance(event, StepDone):
                left = "" if event.seconds_left is None else str(timedelta(seconds=round(event.seconds_left)))
                done = (event.picture - 1) * event.steps + event.step
                progress.update(task, total=event.pictures * event.steps, completed=done, left=left)

        yield show
