"""The references of a call: what encoding them needs, and each of them encoded once. For any family of models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from anystory.pipelines.inputs import EncodedSubject, Subjects
from anystory.subjects import Subject

__all__ = ["check_parts", "each_once", "shaped_like"]

Encoded = TypeVar("Encoded", bound=EncodedSubject)


def check_parts(pipeline: Any, rows: Sequence[Sequence[Subject | EncodedSubject]], reuse: bool = True) -> None:
    """Check that a pipeline has the parts that its subjects need.

    Args:
        pipeline: One with `adapter`, `image_encoder`, `feature_extractor` and `vae`, any of them None.
        rows: Subjects of each prompt; those that are encoded need the adapter only.
        reuse: False encodes these again.

    Raises:
        ValueError: a part is None.
    """
    if pipeline.adapter is None:
        raise ValueError("`subjects` need an adapter, and none is loaded: name one with adapter=… or --adapter")
    if reuse and not any(isinstance(subject, Subject) for row in rows for subject in row):
        return
    for name in ("image_encoder", "feature_extractor", "vae"):
        if getattr(pipeline, name) is None:
            raise ValueError(f"`subjects` need `{name}`, and it is None")


def each_once(
    rows: Sequence[Sequence[Subject | Encoded]], encode: Callable[[list[Any]], list[Encoded]], reuse: bool = True
) -> list[list[Encoded]]:
    """Rows with every Subject encoded that is not yet: all in one batch, and one that occurs several times once.

    Args:
        rows: Subjects of each prompt.
        encode: Encodes a list of them.
        reuse: False encodes again what is encoded.
    """
    fresh = {id(one): one for row in rows for one in row if isinstance(one, Subject) or not reuse}
    encoded: dict[int, Any] = {id(one): one for row in rows for one in row}
    if fresh:
        encoded |= zip(fresh, encode(list(fresh.values())), strict=True)
    return [[encoded[id(one)] for one in row] for row in rows]


def shaped_like(subjects: Subjects, rows: list[list[Encoded]]) -> list[Any]:
    """Encoded rows as the caller gave the subjects: a list, or a list of lists."""
    return rows if isinstance(subjects[0], Sequence) else rows[0]
