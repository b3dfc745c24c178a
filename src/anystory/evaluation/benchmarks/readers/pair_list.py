"""DreamBench with several subjects: UNO's list of prompts with pictures (bytedance/UNO, `datasets/`)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from anystory.evaluation.benchmarks.cases import BenchmarkCase, BenchmarkSubject, check_cases
from anystory.input_files import read_text

__all__ = ["read_pair_list"]

_NAMES = ("dreambench_multiip.json", "datasets/dreambench_multiip.json")


def read_pair_list(data: Path) -> list[BenchmarkCase]:
    """Read a list of `{"prompt": …, "image_paths": […]}`: UNO's has 30 pairs with 25 prompts each.

    Paths are relative to the list. Where nothing lies there, the photo is looked for under the folder by its last two
    parts (`cat/04.jpg`), in `dataset/` too. Drawn pictures are compared with the picture that the model got.

    Args:
        data: A folder with `dreambench_multiip.json`, UNO's repository, or the list itself (then
            `dreambench_singleip.json` is one, too).

    Raises:
        ValueError: no list, or an entry that is not of this form.
        OSError: a file cannot be read.
    """
    found = [data] if data.is_file() else [data / name for name in _NAMES if (data / name).is_file()]
    if not found:
        raise ValueError(
            f"{data} has no {_NAMES[0]}: give the folder with UNO's list (bytedance/UNO, datasets), or a list"
        )
    try:
        entries = json.loads(read_text(found[0]))
    except ValueError as error:
        raise ValueError(f"{found[0]} is no valid JSON ({error}): download or copy it again") from None
    if not isinstance(entries, list):
        raise ValueError(f"{found[0]} must hold a JSON list, got {type(entries).__name__}")
    return check_cases(_cases(found[0], entries), data)


def _cases(listed: Path, entries: list[Any]) -> Iterator[BenchmarkCase]:
    numbers: dict[str, int] = {}
    for place, entry in enumerate(entries):
        prompt, paths = (entry.get("prompt"), entry.get("image_paths")) if isinstance(entry, dict) else (None, None)
        if not isinstance(prompt, str) or not isinstance(paths, list) or not paths:
            raise ValueError(f'{listed}: entry {place} must be {{"prompt": text, "image_paths": [paths]}}')
        subjects = tuple(_subject(listed, place, str(path)) for path in paths)
        pair = "+".join(subject.name for subject in subjects)
        number = numbers[pair] = numbers.get(pair, -1) + 1
        yield BenchmarkCase(
            key=f"{pair}-{number:02d}",
            prompt=prompt,
            subjects=subjects,
            cluster=pair,
            group=f"{len(subjects)} subjects",
        )


def _subject(listed: Path, place: int, path: str) -> BenchmarkSubject:
    folder, last = listed.parent, Path(*Path(path).parts[-2:])
    tried = [folder / path, folder / last, folder / "dataset" / last, folder / "dreambooth" / "dataset" / last]
    photo = next((one for one in tried if one.is_file()), None)
    if photo is None:
        raise ValueError(f"{listed}: entry {place} names {path}, which is neither there nor at {tried[2]}")
    return BenchmarkSubject(name=last.parent.name or last.stem, image=photo, compared=(photo,))
