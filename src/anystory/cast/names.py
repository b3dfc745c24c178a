"""Names of characters and of their variants, in any script: which can be, which are the same, which are near."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Collection, Iterable

__all__ = ["UnknownNameError", "check_line", "check_name", "folder_name", "name_key", "nearest", "split_reference"]

_MOST = 80
"""Characters of a name."""

_NEVER = "@/\\:+={}"
"""What has a meaning beside a name: `mara@winter`, paths, `PATH:MASK`, `A+B`, `NAME=PATH`, `{mara}` in a story."""

_JOINERS = "\u200c\u200d"
"""Invisible, but letters of some scripts are written with them."""

_LONGEST_FOLDER = 80
"""Bytes."""

_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")
"""Names that Windows gives to devices."""


class UnknownNameError(KeyError, ValueError):
    """Nobody, or no variant, has this name."""

    __str__ = Exception.__str__  # KeyError's puts quotation marks around the sentence


def check_name(name: str, what: str = "name") -> str:
    """The name as it is kept: composed letters (NFC), without blanks around it.

    Args:
        name: What was given.
        what: What messages call it.

    Raises:
        ValueError: no name that a character or a variant can have.
    """
    kept = check_line(name, what, _MOST)
    # Full-width signs are others until names are compared (see `name_key`).
    wrong = sorted({sign for sign in kept + unicodedata.normalize("NFKC", kept) if sign in _NEVER})
    if wrong:
        raise ValueError(f"{what} {kept!r} must not hold {' '.join(wrong)}: write it without, or with a - there")
    if not any(sign.isalnum() for sign in kept):
        raise ValueError(f"{what} {kept!r} must hold a letter")
    if kept.isdecimal():
        raise ValueError(f"{what} {kept!r} must not be a number, which options take for a place in an order")
    return kept


def check_line(text: str, what: str, most: int, *, lines: bool = False) -> str:
    """A text as it is kept: NFC, without blanks around it; not empty.

    Args:
        text: What was given.
        what: What messages call it.
        most: Characters that it may have.
        lines: Whether it may have several lines.

    Raises:
        ValueError: it is too long, empty, or holds what cannot be seen (control characters, bytes that are no UTF-8).
    """
    kept = unicodedata.normalize("NFC", text.strip())
    if not kept:
        raise ValueError(f"{what} must not be empty")
    if len(kept) > most:
        raise ValueError(f"{what} must have at most {most:,} characters, got {len(kept):,}")
    allowed = _JOINERS + ("\n\t" if lines else "")
    hidden = [sign for sign in kept if unicodedata.category(sign)[0] in "CZ" and sign not in allowed]
    hidden = [sign for sign in hidden if sign != " " and unicodedata.category(sign) not in ("Zs", "Cn", "Co")]
    if hidden:
        raise ValueError(f"{what} {kept!r} must not hold the invisible character U+{ord(hidden[0]):04X}: leave it out")
    return kept


def name_key(name: str) -> str:
    """The same string for names that are the same: case, the coding of letters and the width of blanks do not count."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def nearest(name: str, known: Collection[str], most: int = 3) -> list[str]:
    """The known names that look most like a name, best first; maybe none."""
    by_key = {name_key(one): one for one in known}
    return [by_key[key] for key in difflib.get_close_matches(name_key(name), by_key, most, 0.5)]


def split_reference(text: str) -> tuple[str, str | None]:
    """`mara@winter`, `@mara@winter` or `mara` as the names of a character and of its variant.

    Raises:
        UnknownNameError: nothing is where a name should be, or there are three names.
    """
    names = text.strip().removeprefix("@").split("@")
    if len(names) > 2 or not all(name.strip() for name in names):
        raise UnknownNameError(f"{text!r} names no character: write @NAME or @NAME@VARIANT, such as @mara@winter")
    return names[0].strip(), names[1].strip() if len(names) == 2 else None


def folder_name(name: str, taken: Iterable[str] = ()) -> str:
    """A folder or file name for a name: its letters in lower case, with a number behind if it is taken."""
    letters = "".join(
        sign if unicodedata.category(sign)[0] in "LMN" else "-" for sign in unicodedata.normalize("NFC", name).lower()
    )
    short = re.sub("-+", "-", letters).encode()[:_LONGEST_FOLDER].decode(errors="ignore").strip("-") or "character"
    if _RESERVED.fullmatch(short):
        short += "-1"
    known = {name_key(one) for one in taken}
    number, free = 1, short
    while name_key(free) in known:
        number += 1
        free = f"{short}-{number}"
    return free
