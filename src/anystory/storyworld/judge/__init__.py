"""The judge: reads pictures of the world (who stands where, wearing what, in which place and light).

    from anystory.storyworld.judge import Judge

    reading = Judge.load().read(images)[0]     # images: (B, 3, 64, 64) in [-1, 1]
    reading.characters[0].attributes["headwear"]

It is trained on renders, apart from every generative model, and never takes part in their training. What needs torch is
imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from anystory.storyworld.judge.attributes import COARSE, FINE, identity_attributes

# Not on first use: the function would then have to replace the module of its name.
from anystory.storyworld.judge.truth import TrueCharacter, truth

if TYPE_CHECKING:
    from anystory.storyworld.judge.config import JudgeConfig
    from anystory.storyworld.judge.reader import CharacterReading, Judge, Reading

__all__ = [
    "COARSE",
    "FINE",
    "CharacterReading",
    "Judge",
    "JudgeConfig",
    "Reading",
    "TrueCharacter",
    "identity_attributes",
    "truth",
]

_LAZY = {"CharacterReading": "reader", "Judge": "reader", "JudgeConfig": "config", "Reading": "reader"}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for (PEP 562)."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
