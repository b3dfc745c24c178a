"""A loaded model and what it can do with tasks: the inside of a worker, in a process of its own or in Ray's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from anystory.engine.drawing import checked_backend, load
from anystory.engine.screening import Screening
from anystory.serving.work.control import Control
from anystory.serving.work.messages import Message, Ready, WorkerSetup, WorkerTask
from anystory.serving.work.pictures import PictureWorker
from anystory.serving.work.segmentation import SegmentWorker
from anystory.serving.work.stories import StoryWorker
from anystory.startup import import_libraries

__all__ = ["Drawer"]


class Drawer:
    """Loads a model and draws tasks with it, some at a time.

    Raises:
        ValueError, OSError: see `engine.drawing.load` and `Screening`.
    """

    def __init__(self, setup: WorkerSetup) -> None:
        backend = checked_backend(setup.model)
        import_libraries(backend.modules)
        self._setup, self._model = setup, load(setup.model)
        self._batch = setup.batch if backend.draws_batches else 1
        self._screening = Screening(setup.safety_checker, watermark=setup.watermark, device=setup.model.device)

    @property
    def ready(self) -> Ready:
        """What the model is made for."""
        limits = self._model.limits
        return Ready(
            size_multiple=limits.size_multiple,
            native_size=limits.native_size,
            max_subjects=limits.max_subjects,
            batch=self._batch,
        )

    def draw(self, tasks: Sequence[WorkerTask], tell: Callable[[Message], None], control: Control) -> None:
        """Draw tasks: pictures that are alike, or one story or segmentation. When this returns, each has ended.

        Args:
            tasks: What to draw.
            tell: Hears of steps, pictures and how each task ended.
            control: Ends them early.

        Raises:
            Exception: a bug, or a device that has failed: this process should end.
        """
        given: dict[str, Any] = {"model": self._model, "tell": tell, "control": control}
        if tasks[0].kind == "segmentation":
            SegmentWorker(**given).draw(*tasks)
        elif tasks[0].kind == "story":
            StoryWorker(screening=self._screening, **given).draw(*tasks)
        else:
            screening, metadata = self._screening, self._setup.metadata
            PictureWorker(batch=self._batch, metadata=metadata, screening=screening, **given).draw(tasks)
