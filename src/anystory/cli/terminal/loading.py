"""A model loaded for a verb. Nothing heavy is imported before it is needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from anystory.cli.terminal.libraries import clean_stdout
from anystory.engine.drawing import checked_backend, load
from anystory.startup import import_libraries

if TYPE_CHECKING:
    from anystory.engine.backends.base import Model
    from anystory.engine.job import Job
    from anystory.engine.options import ModelOptions

__all__ = ["load_model"]


def load_model(options: ModelOptions, job: Job | None = None, first: Callable[[], Any] = lambda: None) -> Model:
    """Load a model, with the libraries that it needs.

    Args:
        options: Which model, and how it is run.
        job: What it is to draw, so that what it cannot draw is refused first.
        first: What has to go well before that; it is called when all libraries are there.

    Raises:
        ValueError, OSError: see `engine.drawing.load`.
    """
    backend = checked_backend(options)
    if job is not None:
        backend.check_job(job)
    with clean_stdout():
        import_libraries(backend.modules)
        first()
        return load(options)
