"""The options of `generate` about its subjects: --subject, --region, --scale, --library and so on.

Nothing heavy is imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from anystory.cli.flags.cast import LibraryFolder
from anystory.cli.flags.photos import is_found, split_photos, usual_name
from anystory.engine.errors import check_text
from anystory.engine.job import PhotoFiles, SubjectFiles, absolute_segmenter

__all__ = ["SubjectFlags", "parse_subjects", "split_name"]

_NEVER_IN_NAMES = "/\\:+"
"""What stands before an = is no name if it holds one of these: it is the beginning of a path."""


@dataclass(frozen=True, kw_only=True)
class SubjectFlags:
    """Who is in the picture, and where."""

    subject: Annotated[
        list[str] | None,
        typer.Option(
            "--subject",
            "-s",
            metavar="[NAME=]PATH[:MASK][+…]",
            help="A subject's picture, and its mask after a colon; or @NAME or @NAME@VARIANT from your library "
            "(see `anystory cast`). Add photos of the same subject after a +, or under the same name. The name labels "
            "the routing sheet and the record, and works in --region and --scale; by default it is the file's or the "
            "character's. Repeatable.",
        ),
    ] = None
    region: Annotated[
        list[str] | None,
        typer.Option(
            metavar="I:X0,Y0,X1,Y1",
            help="Subject I (from 1, or its name) goes into this box, in fractions of the picture.",
        ),
    ] = None
    scale: Annotated[
        list[str] | None,
        typer.Option(
            metavar="I:VALUE", help="Strength of subject I's identity (its CLIP tokens); 1 by default, 0 removes it."
        ),
    ] = None
    reference_scale: Annotated[
        list[str] | None,
        typer.Option(
            metavar="I:VALUE", help="Strength of subject I's details (its reference); 1 by default, 0 removes them."
        ),
    ] = None
    segmenter: Annotated[
        str,
        typer.Option(help="How to cut out subjects without mask or alpha: auto, u2netp, … (see `anystory cutout`)."),
    ] = "auto"
    library: LibraryFolder = None

    def subjects(self) -> tuple[SubjectFiles, ...]:
        """What they say; see `parse_subjects`."""
        return parse_subjects(
            self.subject or [],
            self.region or [],
            self.scale or [],
            self.reference_scale or [],
            self.segmenter,
            self.library,
        )


@dataclass
class _Given:
    """The photos of one subject, gathered over its --subject options."""

    name: str | None
    text: str
    """Of its first --subject option, without the name."""
    photos: list[PhotoFiles] = field(default_factory=list)


def parse_subjects(
    subjects: Sequence[str],
    regions: Sequence[str],
    scales: Sequence[str] = (),
    reference_scales: Sequence[str] = (),
    segmenter: str = "auto",
    library: Path | None = None,
) -> tuple[SubjectFiles, ...]:
    """The values of --subject, --region, --scale, --reference-scale, --segmenter and --library as subjects.

    A subject without a name of its own is named after its file or its character. Subjects with one name are one subject
    with several photos; the order is that in which they are first given.

    Raises:
        ValueError: a name or a setting that cannot be read, or a setting for a subject that does not exist or that has
            one already.
        FileNotFoundError: no such picture or mask.
        KeyError: no such character; it is a ValueError, too.
    """
    given: list[_Given] = []
    for text in subjects:
        name, rest = split_name(text, library)
        check_text("subject", name)
        mine = next((other for other in given if name is not None and other.name == name), None)
        if mine is None:
            given.append(mine := _Given(name, rest))
        try:
            mine.photos += split_photos(rest, library)
        except FileNotFoundError as error:
            raise error if name is None else FileNotFoundError(f"{error} (for the subject {name!r})") from None
    names = [one.name for one in given]
    for number, one in enumerate(given):
        names[number] = one.name or _free_name(usual_name(one.text, one.photos[0], library), names)
    settings = {
        "region": _by_subject("--region", regions, names, 4, "I:X0,Y0,X1,Y1, such as 1:0,0,0.5,1"),
        "scale": _by_subject("--scale", scales, names, 1, "I:VALUE, such as 1:0.8"),
        "reference_scale": _by_subject("--reference-scale", reference_scales, names, 1, "I:VALUE, such as 1:0.8"),
    }
    found = []
    cut_by = {} if segmenter == "auto" else {"segmenter": absolute_segmenter(segmenter)}
    for number, (one, name) in enumerate(zip(given, names, strict=True)):
        own = {option: values[number] for option, values in settings.items() if number in values} | cut_by
        first, *more = one.photos
        found.append(SubjectFiles(image=first.image, mask=first.mask, more=tuple(more), name=name, settings=own))
    return tuple(found)


def split_name(text: str, library: Path | None = None) -> tuple[str | None, str]:
    """`NAME=REST` as (name, rest), anything else as (None, text). An = inside a path does not follow a name.

    Raises:
        ValueError: what stands before the = cannot be a name, or may be a name as well as part of a path.
    """
    name, equals, rest = text.partition("=")
    if not equals or any(character in name for character in _NEVER_IN_NAMES):
        return None, text
    name = name.strip()
    if is_found(text, library):
        if name and is_found(rest, library):
            raise ValueError(
                f"--subject {text}: this may be the file {text!r} as well as the subject {name!r} from {rest!r}: "
                f"write ./{text} or {name}=./{rest}"
            )
        return None, text
    if not name:
        raise ValueError(f"--subject {text}: there is no file of this name, and no subject's name before the =")
    if name.isdecimal():
        raise ValueError(
            f"--subject {text}: a name must not be a number, which --region and --scale would take for a subject's "
            f"place in the order, got {name!r}"
        )
    return name, rest


def _by_subject(
    option: str, texts: Sequence[str], names: Sequence[str | None], numbers: int, form: str
) -> dict[int, Any]:
    """`I:…` or `NAME:…` with numbers, at most one for each subject: {index from 0: number or tuple of numbers}."""
    found: dict[int, Any] = {}
    for text in texts:
        which, _, rest = text.rpartition(":")
        try:
            values = tuple(float(number) for number in rest.split(","))
            if not which or len(values) != numbers:
                raise ValueError
        except ValueError:
            raise ValueError(f"{option} must be {form}; got {text!r}") from None
        index = int(which) - 1 if which.isdecimal() else _place(which, names)
        if not 0 <= index < len(names):
            known = f"they are named {', '.join(map(repr, names))}, or counted from 1 to {len(names)}"
            raise ValueError(f"{option} {text}: there is no subject {which}" + (f"; {known}" if names else ""))
        if index in found:
            raise ValueError(f"{option} {text}: subject {which} has a {option.removeprefix('--')} already")
        found[index] = values if numbers > 1 else values[0]
    return found


def _place(name: str, names: Sequence[str | None]) -> int:
    """Where a name stands, in any case if no other has it; -1 if nowhere."""
    alike = [number for number, other in enumerate(names) if other and other.casefold() == name.casefold()]
    if name in names:
        return names.index(name)
    return alike[0] if len(alike) == 1 else -1


def _free_name(name: str, taken: Sequence[str | None]) -> str:
    """The name, or with a number behind it if another subject has it."""
    candidates = [name, *(f"{name} {number}" for number in range(2, len(taken) + 2))]
    return next(candidate for candidate in candidates if candidate not in taken)
