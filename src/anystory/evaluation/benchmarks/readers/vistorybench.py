"""ViStoryBench: 80 stories with characters and shots (ViStoryBench/vistorybench; arXiv 2505.24862)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from anystory.evaluation.benchmarks.cases import BenchmarkCase, BenchmarkSubject, check_cases, pictures_in
from anystory.input_files import read_text

__all__ = ["LANGUAGES", "read_vistorybench"]

LANGUAGES = ("en", "ch")
_LITE = (1, 8, 9, 15, 17, 19, 24, 27, 28, 29, 32, 41, 52, 53, 55, 57, 60, 64, 68, 79)
"""The stories of ViStoryBench-Lite (`dataset_loader/dataset_load.py`)."""
_FIELDS = ("Setting Description", "Plot Correspondence", "Static Shot Description", "Shot Perspective Design")


def read_vistorybench(data: Path, *, lite: bool = False, language: str = "en") -> list[BenchmarkCase]:
    """Read the public folder: for each story `NN/story.json` and `NN/image/CHARACTER/*.jpg`.

    A shot's prompt joins, with semicolons and in this order, its camera, its plot, what it shows, what each of its
    characters looks like ("NAME is …"), and its place, as the benchmark's own loader does. The model gets a character's
    first picture and is compared with all of them. The group and the cluster of a shot are its story.

    Args:
        data: The data set, or a folder that holds it as `ViStory` or `ViStoryBench`.
        lite: Only the 20 stories of ViStoryBench-Lite.
        language: One of `LANGUAGES`.

    Raises:
        ValueError: no story, or one that is not of this form.
        OSError: a file cannot be read.
    """
    if language not in LANGUAGES:
        raise ValueError(f"the language must be one of {', '.join(LANGUAGES)}, got {language!r}")
    places = [data, data / "ViStory", data / "ViStoryBench"]
    found = next((stories for place in places if (stories := _stories(place))), [])
    chosen = [story for story in found if not lite or int(story.name) in _LITE]
    return check_cases((case for story in chosen for case in _cases(story, language)), data)


def _stories(folder: Path) -> list[Path]:
    there = folder.iterdir() if folder.is_dir() else ()
    return sorted(
        (one for one in there if one.name.isdigit() and (one / "story.json").is_file()), key=lambda s: int(s.name)
    )


def _cases(story: Path, language: str) -> Iterator[BenchmarkCase]:
    path = story / "story.json"
    try:
        content = json.loads(read_text(path).removeprefix("\ufeff"))
        looks = {key.strip(): entry for key, entry in content["Characters"].items()}
        photos = {key: pictures_in(story / "image" / key) for key in looks}
        for shot in content["Shots"]:
            keys = [str(key).strip() for key in shot["Characters Appearing"]["en"]]
            names = [str(name) for name in shot["Characters Appearing"][language]]
            known = [(key, name) for key, name in zip(keys, names, strict=True) if key in looks]
            subjects = tuple(
                BenchmarkSubject(name=f"{story.name}/{key}", image=photos[key][0], compared=photos[key])
                for key, _ in known
            )
            said = [f"{name} is {looks[key][f'prompt_{language}']}" for key, name in known]
            number = int(shot["index"])
            yield BenchmarkCase(
                key=f"{story.name}-{number:02d}",
                prompt=_prompt(shot, said, language),
                subjects=subjects,
                cluster=story.name,
                group=f"story {story.name}",
                official=f"shots/{story.name}/shot_{number:02d}.png",
            )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, ValueError) and str(story) in str(error):
            raise
        raise ValueError(f"{path} is no story of ViStoryBench ({error!r:.100}): get the data set again") from None


def _prompt(shot: dict[str, Any], said: list[str], language: str) -> str:
    place, plot, shows, camera = (str(shot[field][language]) for field in _FIELDS)
    return f"{camera};{plot};{shows};{';'.join(said)};{place};"
