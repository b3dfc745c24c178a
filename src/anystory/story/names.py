"""Names of the cast found in texts: whole words only, in any script.

`{mara}` and `{mara@winter}` are names for certain; there the id works, too. A plain name counts where it stands as a
word of its own, the longest first: "Ann" is never inside "Anna", "Anna-Lena" or "O'Ann". What a word's edge is depends
on the script of the name's first and last letter:

- Most scripts: no letter, digit or mark beside it. A possessive ('s, s') belongs to the mention.
- Han, Hiragana, Thai, Lao, Khmer, Burmese and Tibetan are written without spaces: such names may touch other words.
  Names of one sign would be found in too many words; they need braces.
- Katakana: no katakana beside it. Hangul: a particle may follow.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

import regex

from anystory.story.schema import Story, split_variant

__all__ = ["Mention", "NameFinder", "names_of"]

_LETTER = r"[\p{L}\p{M}\p{N}_]"
_UNSPACED = r"[\p{Han}\p{Hiragana}\p{Bopomofo}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}]"
_KATAKANA = r"[\p{Katakana}ー]"
_PARTICLES = (
    "이라고|라고|이라는|라는|에게서|한테서|으로|에게|한테|께서|부터|까지|처럼|보다|이랑|랑|하고|이나|이야|이는|이가|이를|이의|"
    "은|는|이|가|을|를|의|에|와|과|도|로|만|야|아|나|께"
)
_BEFORE = rf"(?<!{_LETTER})(?<!{_LETTER}[-‐‑])(?<!\p{{Lu}}['’])"
_AFTER = rf"(?!{_LETTER})(?![-‐‑]{_LETTER})"
_POSSESSIVE = r"(?P<possessive>['’]s(?!\p{L})|(?<=[sxzSXZ])['’](?=\s+\p{L}))?"


class Mention(NamedTuple):
    """A name in a text."""

    start: int
    end: int
    """Of the part of the text that it takes, braces and possessive included."""
    member: str | None
    """The id; None for braces around nothing that the story knows."""
    name: str
    """As it is written, without braces and possessive."""
    variant: str | None = None
    possessive: bool = False


def names_of(story: Story, member: str) -> tuple[str, ...]:
    """The names of a cast member as plain texts have them; the id only where it has no name of its own."""
    who = story.cast[member]
    own = (who.name,) if who.name else (member, story.display_name(member))
    return tuple(dict.fromkeys(unicodedata.normalize("NFC", name) for name in (*own, *who.aliases) if name.strip()))


class NameFinder:
    """Finds the names of a story's cast in texts.

    Args:
        story: Whose cast.
    """

    def __init__(self, story: Story) -> None:
        self._story = story
        self._members: dict[str, str] = {}
        for member in story.cast:
            for name in names_of(story, member):
                for form in (name, name.upper()):
                    self._members.setdefault(_folded(form), member)
        plain = sorted((name for name in self._members if not _is_one_sign(name)), key=len, reverse=True)
        known = "|".join(map(_pattern, plain)) or r"(?!)"
        self._pattern = regex.compile(rf"(?:\{{(?P<braced>[^{{}}]*)\}}|(?P<plain>{known})){_POSSESSIVE}")

    def find(self, text: str) -> Iterator[Mention]:
        """The mentions in a text (NFC), from left to right."""
        for found in self._pattern.finditer(text):
            possessive = found["possessive"] is not None
            if found["plain"] is not None:
                member = self._members[_folded(found["plain"])]
                yield Mention(found.start(), found.end(), member, found["plain"], possessive=possessive)
                continue
            name, variant = split_variant(found["braced"].strip())
            member = name if name in self._story.cast else self._members.get(_folded(name))
            member = member or self._story.member(name)
            yield Mention(found.start(), found.end(), member, name, variant, possessive)


def _folded(name: str) -> str:
    return " ".join(unicodedata.normalize("NFC", name).split())


def _is_one_sign(name: str) -> bool:
    return len(name) == 1 and regex.match(_UNSPACED, name) is not None


def _pattern(name: str) -> str:
    """A name with what must not, or may, stand beside it."""
    middle = r"\s+".join(map(regex.escape, name.split()))
    return _edge(name[0], _BEFORE, rf"(?<!{_KATAKANA})") + middle + _edge(name[-1], _AFTER, rf"(?!{_KATAKANA})", True)


def _edge(letter: str, usual: str, katakana: str, last: bool = False) -> str:
    if regex.match(_UNSPACED, letter):
        return r"(?!\p{M})" if last else ""
    if regex.match(_KATAKANA, letter):
        return katakana
    if last and regex.match(r"\p{Hangul}", letter):
        return rf"(?=(?:{_PARTICLES})?(?!{_LETTER}))"
    return usual
