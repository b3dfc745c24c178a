"""A level: what may appear in the world. Levels are data (JSON files in `levels/`), not code."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Le, MinLen
from pydantic import AfterValidator, ConfigDict, ValidationError
from pydantic.dataclasses import dataclass

from anystory.input_files import read_object, why_invalid


def _each_once(words: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(words)) != len(words):
        raise ValueError(f"names something twice: {words!r}")
    return words


_AnyWords = Annotated[tuple[str, ...], AfterValidator(_each_once)]
_Words = Annotated[_AnyWords, MinLen(1)]
_Chance = Annotated[float, Ge(0), Le(1)]


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Level:
    """The vocabulary that identities, appearances and scenes are sampled from.

    Raises:
        ValueError: missing, unknown or bad entries.
    """

    name: Annotated[str, MinLen(1)]
    kinds: _Words
    colours: _Words
    patterns: _Words
    emblems: _Words
    headwear: _Words
    """Without "none": how often something is worn at all is `wear_chance`. Likewise neckwear and accessories."""
    neckwear: _Words
    accessories: _Words
    wear_chance: _Chance
    """Probability, 0 to 1, that each of headwear, neckwear and accessory is worn."""
    poses: _Words
    views: _Words
    expressions: _Words
    held: _AnyWords
    """What a hand may hold, without "none"; empty: never anything."""
    held_chance: _Chance
    """Probability, 0 to 1, that something is held."""
    places: _Words
    lights: _Words
    styles: _Words
    arrangements: _Words
    """How several characters stand: "apart", "overlapping", "in_front", "holding_hands"."""
    max_characters: Annotated[int, Ge(1), Le(4)]
    character_counts: tuple[float, ...] = ()
    """How often scenes have 1, 2, … characters, as weights, one for each number; empty: a mix that suits the most."""

    def __post_init__(self) -> None:
        counts = self.character_counts
        if counts and (len(counts) != self.max_characters or min(counts) < 0 or not sum(counts) > 0):
            raise ValueError(
                f"character_counts must be {self.max_characters} weights of at least 0, not all of them 0, "
                f"got {list(counts)!r}"
            )


def check_words(owner: object, **known: Collection[str]) -> None:
    """Raise ValueError for an attribute of `owner` that is none of the words it may be."""
    for name, words in known.items():
        if (value := getattr(owner, name)) not in words:
            raise ValueError(f"unknown {name} {value!r}: use one of {', '.join(words)}")


@lru_cache(maxsize=32)
def load_level(level: str | int | Path) -> Level:
    """Loads a built-in level ("level1", or 1, 2, 3 as a number or text) or a JSON file of the same form.

    Raises:
        ValueError: no such level, not JSON, or missing, unknown or bad entries (named in the message).
    """
    name = f"level{level}" if str(level).isdecimal() else str(level)
    source = Path(name) if name.endswith(".json") else files("anystory.storyworld") / "levels" / f"{name}.json"
    try:
        with as_file(source) as path:
            data = read_object(path, "give a level's file, or 1, 2 or 3")
    except OSError:
        raise ValueError(f"no level {level!r}: use 1, 2, 3 or the path of a .json file") from None
    try:
        return Level(**data)
    except ValidationError as error:
        raise ValueError(f"level file {source}: {why_invalid(error)}") from None
