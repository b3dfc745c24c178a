"""DreamBench: 30 subjects, 25 prompts each (google/dreambooth, `dataset/`)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from anystory.evaluation.benchmarks.cases import BenchmarkCase, BenchmarkSubject, check_cases, pictures_in
from anystory.input_files import read_text

__all__ = ["read_dreambench"]

_TEXTS = "prompts_and_classes.txt"
_LIVE = ("cat", "dog")
"""Classes whose subjects take the prompts for living ones; the file does not say so, the paper does (section 4.1)."""


def read_dreambench(data: Path) -> list[BenchmarkCase]:
    """Read the public folder: `dataset/prompts_and_classes.txt` and a folder of photos for each subject.

    The unique token of the prompts is left out, as methods without fine-tuning do: "a dog in the jungle". The model
    gets the first photo of a subject; drawn pictures are compared with all of its photos.

    Args:
        data: The repository, or its `dataset` folder.

    Raises:
        ValueError: another layout; the message says what is missing.
        OSError: a file cannot be read.
    """
    folder = data / "dataset" if (data / "dataset" / _TEXTS).is_file() else data
    if not (folder / _TEXTS).is_file():
        raise ValueError(f"{data} has no {_TEXTS}: give the folder of DreamBooth's data set (google/dreambooth)")
    text = read_text(folder / _TEXTS)
    classes = dict(re.findall(r"^(\w+),([\w ]+)$", text.partition("Prompts")[0], re.MULTILINE))
    classes.pop("subject_name", None)
    of_objects, _, of_living = text.partition("Object Prompts")[2].partition("Live Subject Prompts")
    parts = {"object": of_objects, "live": of_living}
    templates = {name: re.findall(r"'([^']+)'\.format", part) for name, part in parts.items()}
    if not classes or not all(templates.values()):
        raise ValueError(f"{folder / _TEXTS} lists no classes or no prompts: get the file again")
    return check_cases(_cases(folder, classes, templates), data)


def _cases(folder: Path, classes: dict[str, str], templates: dict[str, list[str]]) -> Iterator[BenchmarkCase]:
    for name, kind in classes.items():
        photos = pictures_in(folder / name)
        group = "live" if kind in _LIVE else "object"
        subject = BenchmarkSubject(name=name, image=photos[0], compared=photos)
        for number, template in enumerate(templates[group]):
            prompt = " ".join(template.format("", kind).split())
            yield BenchmarkCase(
                key=f"{name}-{number:02d}", prompt=prompt, subjects=(subject,), cluster=name, group=group
            )
