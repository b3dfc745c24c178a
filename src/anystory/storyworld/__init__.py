"""StoryWorld: a procedural picture-book world, drawn as vector graphics from a seed.

    from anystory.storyworld import render_scene, sample_scene

    scene = sample_scene(7, level=1)
    picture = render_scene(scene, 512).image      # (512, 512, 3) uint8; scene.caption says what it shows

The public names are imported on first use. Nothing in here imports torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "Appearance": "appearance",
    "Identity": "identity",
    "Level": "level",
    "Placement": "scene",
    "Proportions": "identity",
    "RenderedScene": "render",
    "Scene": "scene",
    "ScenePair": "scene",
    "caption": "captions",
    "is_heldout": "identity",
    "load_level": "level",
    "render_reference": "reference",
    "render_scene": "render",
    "sample_appearance": "appearance",
    "sample_identity": "identity",
    "sample_pair": "scene",
    "sample_scene": "scene",
    "vocabulary": "captions",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
