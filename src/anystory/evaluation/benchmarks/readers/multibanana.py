"""MultiBanana: tasks with up to eight references (matsuolab/multibanana; kohsei/MultiBanana-Benchmark on the hub)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from anystory.evaluation.benchmarks.cases import PICTURES, BenchmarkCase, BenchmarkSubject, check_cases
from anystory.input_files import read_text

__all__ = ["read_multibanana"]

_PROMPT = "_prompt.txt"


def read_multibanana(data: Path) -> list[BenchmarkCase]:
    """Read the public folder: a folder for each task with `006_prompt.txt` and `006_0.jpg`, `006_1.jpg`, …

    Each reference is a subject, a background's too: there is no other place for one. Its name is its number, since
    references do not occur twice. The benchmark's score is a language model's (Qwen3-VL and others); pictures are laid
    out as its `judge.py` expects them.

    Args:
        data: The data set, or a folder that holds it as `data`.

    Raises:
        ValueError: no task, or one without references.
        OSError: a file cannot be read.
    """
    folder = data if any(data.glob(f"*/*{_PROMPT}")) else data / "data"
    return check_cases(_cases(folder), data)


def _cases(folder: Path) -> Iterator[BenchmarkCase]:
    for path in sorted(folder.glob(f"*/*{_PROMPT}")):
        task, number = path.parent.name, path.name.removesuffix(_PROMPT)
        photos = _references(path.parent, number)
        if not photos:
            raise ValueError(f"{path} has no references beside it: expected {number}_0.jpg, {number}_1.jpg and so on")
        prompt = " ".join(read_text(path).split())
        if not prompt:
            raise ValueError(f"{path} is empty: get the data set again")
        subjects = tuple(
            BenchmarkSubject(name=f"reference {place}", image=photo, compared=(photo,))
            for place, photo in enumerate(photos, start=1)
        )
        key = f"{task}-{number}"
        official = f"{task}/{number}_generated.png"
        yield BenchmarkCase(key=key, prompt=prompt, subjects=subjects, cluster=key, group=task, official=official)


def _references(folder: Path, number: str) -> list[Path]:
    """The references of a set in their order; the data set begins with 0, the benchmark's programs with 1."""
    found: list[Path] = []
    for place in range(10):
        photo = next((one for end in PICTURES if (one := folder / f"{number}_{place}{end}").is_file()), None)
        if photo is not None:
            found.append(photo)
        elif place:
            break
    return found
