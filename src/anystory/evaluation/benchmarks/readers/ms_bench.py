"""MS-Bench: 1148 combinations of two and three subjects (MS-Diffusion/MS-Diffusion, `msbench/`)."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from itertools import combinations, groupby, product
from pathlib import Path
from typing import Any

from anystory.evaluation.benchmarks.cases import BenchmarkCase, BenchmarkSubject, check_cases, pictures_in
from anystory.input_files import read_text

__all__ = ["read_ms_bench"]

_TABLES = ("msbench.py", "msdiffusion/dataset/prompts/msbench.py", "../msdiffusion/dataset/prompts/msbench.py")
_NEEDED = (
    "data_class_dict", "two_subject_combinations", "three_subject_combinations", "subject_combination_boxes",
    "subject_combination_prompts",
)  # fmt: skip


def read_ms_bench(data: Path) -> list[BenchmarkCase]:
    """Read the pictures by type (`living/`, `object/`, …) and the benchmark's own tables (`prompts/msbench.py`).

    A combination of types such as `living_object` takes each picture of the one with each of the other; types that
    occur several times take each set of different pictures once. Each combination has all prompts of its type: six, or
    one with a scene. The tables are read as data; their file is not run. Each box of the layout goes to its subject's
    `region`, which a run uses only if asked to.

    Args:
        data: The repository, or its `msbench` folder, with `msbench.py` in it or at its place in the repository.

    Raises:
        ValueError: no tables, a table or a type that is missing.
        OSError: a file cannot be read.
    """
    found = [data / name for name in _TABLES if (data / name).is_file()]
    if not found:
        raise ValueError(f"{data} has no msbench.py: give MS-Diffusion's repository, or put prompts/msbench.py there")
    tables = _read_tables(found[0])
    folder = data / "msbench" if (data / "msbench").is_dir() else data
    return check_cases(_cases(folder, tables), data)


def _read_tables(path: Path) -> dict[str, Any]:
    """The constants that a Python file assigns; a name that was assigned above stands for its value."""
    tables: dict[str, Any] = {}

    def value(node: ast.expr) -> Any:
        if isinstance(node, ast.Name):
            return tables[node.id]
        if isinstance(node, ast.Dict):
            return {value(key): value(one) for key, one in zip(node.keys, node.values, strict=True) if key is not None}
        return ast.literal_eval(node)

    try:
        for statement in ast.parse(read_text(path)).body:
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                tables[statement.targets[0].id] = value(statement.value)
    except (SyntaxError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is not MS-Bench's table of constants ({error!r:.80}): get it again") from None
    if missing := [name for name in _NEEDED if name not in tables]:
        raise ValueError(f"{path} lacks {', '.join(missing)}: get MS-Bench's prompts/msbench.py again")
    return tables


def _cases(folder: Path, tables: dict[str, Any]) -> Iterator[BenchmarkCase]:
    for combination in (*tables["two_subject_combinations"], *tables["three_subject_combinations"]):
        kinds = combination.split("_")
        boxes, prompts = (tables[f"subject_combination_{what}"].get(combination) for what in ("boxes", "prompts"))
        if not prompts or len(boxes or ()) != len(kinds):
            raise ValueError(f"MS-Bench's table has no prompts, or not a box for each subject, of {combination}")
        for photos in _combined(folder, kinds):
            names = [photo.stem for photo in photos]
            words = [tables["data_class_dict"].get(name) for name in names]
            if None in words:
                raise ValueError(
                    f"{photos[words.index(None)]}: MS-Bench's table does not know {names[words.index(None)]!r}"
                )
            subjects = tuple(
                BenchmarkSubject(name=name, image=photo, compared=(photo,), region=_box(box))
                for name, photo, box in zip(names, photos, boxes, strict=True)
            )
            for number, prompt in enumerate(prompts):
                yield BenchmarkCase(
                    key=f"{combination}-{'+'.join(names)}-{number}",
                    prompt=prompt.format(*words),
                    subjects=subjects,
                    cluster="+".join(names),
                    group=combination,
                )


def _combined(folder: Path, kinds: Sequence[str]) -> Iterator[tuple[Path, ...]]:
    """Each choice of a picture for each type; of equal types, which stand together, each set once."""
    choices = [combinations(pictures_in(folder / kind), len(list(same))) for kind, same in groupby(kinds)]
    for parts in product(*choices):
        yield tuple(photo for part in parts for photo in part)


def _box(box: Sequence[float]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = map(float, box)
    return x0, y0, x1, y1
