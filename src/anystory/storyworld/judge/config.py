"""Sizes and vocabulary of a judge: all that is needed to build its networks and to name what they say."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from anystory.storyworld.judge.attributes import attribute_values
from anystory.storyworld.level import Level, load_level


@dataclass(frozen=True, kw_only=True)
class JudgeConfig:
    """Configuration of a judge, stored as `config.json` beside its weights."""

    level: str
    """Name of the level whose vocabulary it speaks."""
    attributes: dict[str, tuple[str, ...]]
    """Attribute of a character -> its values."""
    places: tuple[str, ...]
    lights: tuple[str, ...]
    size: int = 64
    """Height and width of the pictures that it reads, in pixels; a multiple of 8."""
    max_characters: int = 3
    """Characters that it can tell apart in one picture. One more than the level has, so that extras are counted."""
    min_area: int = 40
    """Fewer pixels than this are not a character."""
    crop: int = 48
    """Side of the square into which one character is enlarged before its attributes are read; a multiple of 8."""
    chest: tuple[float, float, float] = (0.46, 0.67, 0.4)
    """Where a character's chest is: x and y of the middle and the side of a square, in sides of the crop. Measured on
    level 1: emblems lie at (0.46 ± 0.04, 0.67 ± 0.05)."""
    chest_crop: int = 32
    """Side of the square into which the chest is enlarged; a multiple of 8."""
    scene_widths: tuple[int, int, int] = (32, 64, 128)
    """Channels of the scene network at 1/2, 1/4 and 1/8 of the picture."""
    character_widths: tuple[int, int, int] = (48, 96, 128)
    """Channels of the character network at 1/2, 1/4 and 1/8 of the crop."""
    chest_widths: tuple[int, int, int] = (32, 48, 64)
    """Channels of its branch for the chest, at 1/1, 1/2 and 1/4."""

    def __post_init__(self) -> None:
        for name in ("size", "crop", "chest_crop"):
            value = getattr(self, name)
            if value < 16 or value % 8:
                raise ValueError(f"a judge's {name} must be a multiple of 8 from 16 on, got {value}")
        if not 1 <= self.max_characters <= 4:
            raise ValueError(f"a judge's max_characters must lie in 1..4, got {self.max_characters}")

    @classmethod
    def of_level(cls, level: Level | str | int, **sizes: Any) -> JudgeConfig:
        """The configuration for a level's vocabulary; `sizes` overrides the defaults.

        Raises:
            ValueError: unknown level, or bad sizes.
        """
        level = level if isinstance(level, Level) else load_level(level)
        return cls(
            level=level.name,
            attributes=attribute_values(level),
            places=level.places,
            lights=level.lights,
            **sizes,
        )

    def to_json(self) -> str:
        """The text of `config.json`."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> JudgeConfig:
        """Read `to_json`'s text.

        Raises:
            ValueError: not JSON, or with missing, unknown or bad entries.
        """
        try:
            data = json.loads(text)
            known = {field.name for field in fields(cls)}
            unknown = sorted(set(data) - known)
            if unknown:
                raise ValueError(f"unknown entries {unknown}")
            values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
            values["attributes"] = {name: tuple(words) for name, words in data["attributes"].items()}
            return cls(**values)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"not a judge's config.json: {error}") from None
