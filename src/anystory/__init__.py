"""AnyStory: put your own characters into pictures.

    from anystory import AnyStoryPipeline, Subject

The public names are imported on first use, so that `import anystory` (and with it the command line's
help) costs milliseconds and never imports torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

__version__ = "0.1.0"

__all__ = [
    "AdapterConfig",
    "AnyStoryControlNetImg2ImgPipeline",
    "AnyStoryControlNetInpaintPipeline",
    "AnyStoryControlNetPipeline",
    "AnyStoryImg2ImgPipeline",
    "AnyStoryInpaintPipeline",
    "AnyStoryPipeline",
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
    "Subject": "anystory.subjects",
    "SubjectAdapter": "anystory.models.adapter",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'anystory' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
