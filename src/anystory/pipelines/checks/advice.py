"""Warnings about a call that runs, but not as you may expect."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

__all__ = ["advise_call", "advise_strangers", "advise_twins", "cut_text"]

_TEXTS = {"prompt": "the prompt", "negative_prompt": "the negative prompt"}

_MOST_PIXELS = 2.0
"""The largest factor, either way, between a picture's pixels and the model's own, and between their sides. SDXL repeats
things in larger pictures and crops them in smaller ones."""


def _advise(sentences: Iterable[str]) -> None:
    """Issue each sentence as a `UserWarning`."""
    for sentence in sentences:
        warnings.warn(sentence, UserWarning, stacklevel=3)


def advise_call(pipe: Any, values: Mapping[str, Any], rows: Sequence[Sequence[Any]]) -> None:
    """Warn about arguments without effect, too many subjects and an unusual size.

    Args:
        pipe: The pipeline, with the call's guidance set.
        values: The call's arguments, with defaults.
        rows: The subjects of each prompt.
    """
    guided = pipe.do_classifier_free_guidance
    _advise(_cut_texts(pipe, values, guided))
    _advise(_idle_negatives(values, guided))
    if pipe.adapter is not None:
        _advise(_too_many_subjects(rows, pipe.adapter.sizes.max_subjects))
    with suppress(ValueError):  # without subjects, a picture is diffusers' to refuse
        height, width = pipe._picture_size(values)
        _advise(_odd_size(height, width, pipe.native_size))


def advise_twins(twins: Iterable[tuple[str, str]]) -> None:
    """Warn about pairs of equal subjects, by name; the second one yields to the first."""
    _advise(
        f"{first!r} and {second!r} are the same picture, and the router cannot tell them apart: {first!r} gets the"
        " pixels of both; give each a region to see it twice"
        for first, second in twins
    )


def advise_strangers(encodings: Iterable[Any]) -> None:
    """Warn about fresh `SubjectEncoding`s of references unlike all that the adapter was trained on."""
    _advise(
        f"{encoding.subject.name or repr(encoding.subject)} is unlike every reference that this model was trained on"
        f" ({encoding.strangeness:.1f} times as far as the farthest): it may become something else"
        for encoding in encodings
        if encoding.strangeness is not None and encoding.strangeness > 1
    )


def _cut_texts(pipe: Any, values: Mapping[str, Any], guided: bool) -> Iterator[str]:
    """Words that a text encoder does not read, because a prompt has more tokens than it takes.

    Args:
        pipe: Its `tokenizer` and `tokenizer_2`, and the words that it has learned (textual inversion).
        values: The call's arguments.
        guided: Whether the negative prompt is read.
    """
    both = pipe.tokenizer is not None and pipe.tokenizer_2 is not None
    for argument, name in _TEXTS.items():
        first, second = values.get(argument), values.get(f"{argument}_2")
        if values.get(f"{argument}_embeds") is not None or (argument != "prompt" and not guided):
            continue
        if second and not both and second != first:
            yield f"`{argument}_2` does nothing: this model has one text encoder, which reads `{argument}`"
        read = [(pipe.tokenizer or pipe.tokenizer_2, first)]
        if both:
            read.append((pipe.tokenizer_2, second or first))
        said = set()
        for tokenizer, texts in read:
            for text in [texts] if isinstance(texts, str) else texts or ():
                if tokenizer is None or not isinstance(text, str):
                    continue
                if (cut := cut_text(tokenizer, pipe.maybe_convert_prompt(text, tokenizer))) and cut not in said:
                    said.add(cut)
                    limit = tokenizer.model_max_length - 2  # all but the two that mark its ends
                    yield f"{name} is longer than the {limit} tokens that this model reads; without effect: {cut!r}"


def _idle_negatives(values: Mapping[str, Any], guided: bool) -> Iterator[str]:
    """A negative prompt without effect."""
    given = {name for name in values if name.startswith("negative_prompt") and _is_given(values[name])}
    if given and not guided:
        guidance = values.get("guidance_scale")
        yield f"the negative prompt has no effect at guidance {guidance:g}: it acts with a guidance above 1"
    elif given == {"negative_prompt_2"}:
        yield "`negative_prompt_2` has no effect without `negative_prompt`: give both"


def _too_many_subjects(rows: Sequence[Sequence[Any]], trained: int | None) -> Iterator[str]:
    """More subjects in a picture than the adapter has seen together.

    Args:
        rows: The subjects of each prompt.
        trained: The most that it was trained with; None if unknown.
    """
    most = max(map(len, rows), default=0)
    if trained is not None and most > trained:
        yield f"this model was trained with at most {trained} subjects in a picture, not {most}: it may mix them up"


def _odd_size(height: int, width: int, native: int) -> Iterator[str]:
    """A size far from the one that the model was trained at.

    Args:
        height, width: Of the picture, pixels.
        native: Side of the pictures that the model was trained on, pixels.
    """
    area = height * width / native**2
    sides = (height / native, width / native)
    if not 1 / _MOST_PIXELS <= area <= _MOST_PIXELS or max(sides) > _MOST_PIXELS or min(sides) < 1 / _MOST_PIXELS:
        yield (
            f"{width}×{height} is far from the {native}×{native} pixels that this model was trained at: parts of the"
            " picture may be repeated, cropped or confused"
        )


def cut_text(tokenizer: Any, text: str) -> str:
    """The end of a text, from the first word that is not wholly among the tokens that are read."""
    fast = getattr(tokenizer, "is_fast", False)
    tokens = tokenizer(text, truncation=False, verbose=False, return_offsets_mapping=fast)
    if len(tokens["input_ids"]) <= tokenizer.model_max_length:
        return ""
    first = tokenizer.model_max_length - 1  # the end mark takes its place
    if not fast:
        return tokenizer.decode(tokens["input_ids"][first:], skip_special_tokens=True).strip()
    start = tokens["offset_mapping"][first][0]
    while start and not text[start - 1].isspace():
        start -= 1
    return " ".join(text[start:].split())


def _is_given(value: Any) -> bool:
    """Whether a text, a list of texts or an embedding says anything."""
    if value is None or isinstance(value, str):
        return bool(value)
    return any(value) if isinstance(value, (list, tuple)) else True
