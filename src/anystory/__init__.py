"""AnyStory: put your own characters into pictures.

    from anystory import AnyStoryPipeline, Subject

The public names are imported on first use, so that `import anystory` (and with it the command line's
help) costs milliseconds and never imports torch.
"""

from __future__ import annotations

from contextlib import ExitStack
from importlib import import_module
from typing import TYPE_CHECKING, Any

from anystory.version import __version__

if TYPE_CHECKING:
    from anystory.cast import Library
    from anystory.models.adapter import SubjectAdapter
    from anystory.models.configs import AdapterConfig
    from anystory.pipelines.sdxl import (
        AnyStoryControlNetImg2ImgPipeline,
        AnyStoryControlNetInpaintPipeline,
        AnyStoryControlNetPipeline,
        AnyStoryImg2ImgPipeline,
        AnyStoryInpaintPipeline,
        AnyStoryPipeline,
    )
    from anystory.subjects import Subject

__all__ = [
    "AdapterConfig",
    "AnyStoryControlNetImg2ImgPipeline",
    "AnyStoryControlNetInpaintPipeline",
    "AnyStoryControlNetPipeline",
    "AnyStoryImg2ImgPipeline",
    "AnyStoryInpaintPipeline",
    "AnyStoryPipeline",
    "Library",
    "Subject",
    "SubjectAdapter",
    "__version__",
]

_HOME = {
    "AdapterConfig": "anystory.models.configs",
    "AnyStoryControlNetImg2ImgPipeline": "anystory.pipelines.sdxl",
    "AnyStoryControlNetInpaintPipeline": "anystory.pipelines.sdxl",
    "AnyStoryControlNetPipeline": "anystory.pipelines.sdxl",
    "AnyStoryImg2ImgPipeline": "anystory.pipelines.sdxl",
    "AnyStoryInpaintPipeline": "anystory.pipelines.sdxl",
    "AnyStoryPipeline": "anystory.pipelines.sdxl",
    "Library": "anystory.cast",
    "Subject": "anystory.subjects",
    "SubjectAdapter": "anystory.models.adapter",
}

_HEAVY = {"anystory.models.adapter", "anystory.pipelines.sdxl"}
"""What imports torch and the libraries on it."""


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'anystory' has no attribute {name!r}")
    with ExitStack() as while_imported:
        if _HOME[name] in _HEAVY:
            from anystory.quiet import quiet_loading
            from anystory.startup import collections_paused

            while_imported.enter_context(collections_paused())
            while_imported.enter_context(quiet_loading())
        value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
