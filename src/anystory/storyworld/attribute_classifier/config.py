"""Sizes and vocabulary of an attribute classifier: what its networks are built from, and the words it reads."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any

from annotated_types import Ge, Le, MultipleOf
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from anystory.input_files import why_invalid
from anystory.storyworld.attribute_classifier.attributes import attribute_values
from anystory.storyworld.level import Level, load_level

_Side = Annotated[int, Ge(16), MultipleOf(8)]


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class ClassifierConfig:
    """Configuration of an attribute classifier, stored as `config.json` beside its weights."""

    level: str
    """Name of the level whose vocabulary it speaks."""
    attributes: dict[str, tuple[str, ...]]
    """Attribute of a character -> its values."""
    places: tuple[str, ...]
    lights: tuple[str, ...]
    size: _Side = 64
    """Height and width of the pictures that it reads, in pixels; a multiple of 8."""
    max_characters: Annotated[int, Ge(1), Le(4)] = 3
    """Characters that it can tell apart in one picture. One more than the level has, so that extras are counted."""
    min_area: int = 40
    """Fewer pixels than this are not a character."""
    crop: _Side = 48
    """Side of the square into which one character is enlarged before its attributes are read; a multiple of 8."""
    chest: tuple[float, float, float] = (0.46, 0.67, 0.4)
    """Where a character's chest is: x and y of the middle and the side of a square, in sides of the crop. Measured on
    level 1: emblems lie at (0.46 ± 0.04, 0.67 ± 0.05)."""
    chest_crop: _Side = 32
    """Side of the square into which the chest is enlarged; a multiple of 8."""
    scene_widths: tuple[int, int, int] = (32, 64, 128)
    """Channels of the scene network at 1/2, 1/4 and 1/8 of the picture."""
    character_widths: tuple[int, int, int] = (48, 96, 128)
    """Channels of the character network at 1/2, 1/4 and 1/8 of the crop."""
    chest_widths: tuple[int, int, int] = (32, 48, 64)
    """Channels of its branch for the chest, at 1/1, 1/2 and 1/4."""

    @classmethod
    def of_level(cls, level: Level | str | int, **sizes: Any) -> ClassifierConfig:
        """The configuration for a level's vocabulary; `sizes` overrides the defaults.

        Raises:
            ValueError: unknown level, or bad sizes.
        """
        level = level if isinstance(level, Level) else load_level(level)
        return cls(
            level=level.name, attributes=attribute_values(level), places=level.places, lights=level.lights, **sizes
        )

    def to_json(self) -> str:
        """The text of `config.json`."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> ClassifierConfig:
        """Read `to_json`'s text.

        Raises:
            ValueError: not JSON, or with missing, unknown or bad entries.
        """
        try:
            return TypeAdapter(cls).validate_json(text)
        except ValidationError as error:
            raise ValueError(f"not an attribute classifier's config.json: {why_invalid(error)}") from None
