"""A level: what may appear in the world. Levels are data (JSON files in `levels/`), not code."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Level:
    """The vocabulary that identities, appearances and scenes are sampled from."""

    name: str
    kinds: tuple[str, ...]
    colours: tuple[str, ...]
    patterns: tuple[str, ...]
    emblems: tuple[str, ...]
    headwear: tuple[str, ...]
    """Without "none": how often something is worn at all is `wear_chance`. Likewise neckwear and accessories."""
    neckwear: tuple[str, ...]
    accessories: tuple[str, ...]
    wear_chance: float
    """Probability, 0 to 1, that each of headwear, neckwear and accessory is worn."""
    poses: tuple[str, ...]
    views: tuple[str, ...]
    expressions: tuple[str, ...]
    held: tuple[str, ...]
    """What a hand may hold, without "none"; empty: never anything."""
    held_chance: float
    """Probability, 0 to 1, that something is held."""
    places: tuple[str, ...]
    lights: tuple[str, ...]
    styles: tuple[str, ...]
    arrangements: tuple[str, ...]
    """How several characters stand: "apart", "overlapping", "in_front", "holding_hands"."""
    max_characters: int

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "tuple[str, ...]":
                if not isinstance(value, tuple) or not all(isinstance(item, str) for item in value):
                    raise ValueError(f"level {self.name!r}: {field.name} must be a list of words, got {value!r}")
                if len(set(value)) != len(value):
                    raise ValueError(f"level {self.name!r}: {field.name} names something twice: {value!r}")
                if not value and field.name != "held":
                    raise ValueError(f"level {self.name!r}: {field.name} must not be empty")
            elif field.name.endswith("_chance") and not 0.0 <= value <= 1.0:
                raise ValueError(f"level {self.name!r}: {field.name} must lie in 0..1, got {value!r}")
        if not 1 <= self.max_characters <= 4:
            raise ValueError(f"level {self.name!r}: max_characters must lie in 1..4, got {self.max_characters!r}")


@lru_cache(maxsize=32)
def load_level(level: str | int | Path) -> Level:
    """Loads a built-in level ("level1" or 1, 2, 3) or a JSON file of the same form.

    Raises:
        ValueError: no such level, not JSON, or missing, unknown or bad entries (named in the message).
    """
    name = f"level{level}" if isinstance(level, int) else str(level)
    source = Path(name) if name.endswith(".json") else files("anystory.storyworld") / "levels" / f"{name}.json"
    try:
        data = json.loads(source.read_text(encoding="utf-8"))
    except (FileNotFoundError, OSError):
        raise ValueError(f"no level {level!r}: use 1, 2, 3 or the path of a .json file") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"level file {source} is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise ValueError(f"level file {source} must hold an object, got {type(data).__name__}")
    known = [field.name for field in fields(Level)]
    missing = [key for key in known if key not in data]
    unknown = [key for key in data if key not in known]
    if missing or unknown:
        raise ValueError(f"level file {source}: missing entries {missing}, unknown entries {unknown}")
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
    return Level(**values)
