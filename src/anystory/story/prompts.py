"""What the model reads for a panel: names become the cast's words, and style and place are added.

A model does not know who "Mara" is. The first mention becomes her description in full ("a fox in a red coat"), later
ones become the short form ("the fox"), possessives included. Who is in the picture without being named is appended.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from anystory.story.names import Mention, NameFinder
from anystory.story.schema import PanelSubject, Story, StoryPanel
from anystory.story.styles import style_named

__all__ = ["PanelPrompt", "Wording", "panel_prompt", "wording_of"]

_ARTICLES = ("a", "an", "the")
_DETAILS = re.compile(r"\s*,.*|\s+(?:with|in|on|wearing|holding|carrying|who|that|which|of)\s.*", re.DOTALL)
"""Where the head of a description ends: "a fox | in a red coat"."""
_PREPOSITIONS = frozenset(
    (
        "above", "across", "after", "along", "among", "around", "at", "before", "behind", "below", "beneath", "beside",
        "between", "by", "deep", "down", "during", "far", "from", "high", "in", "inside", "near", "next", "on",
        "outside", "over", "through", "under", "up", "within",
    )
)  # fmt: skip
"""A place that begins with one of these follows without a comma."""


class Wording(NamedTuple):
    """The words for somebody."""

    full: str
    """At the first mention: "a fox in a red coat"."""
    short: str
    """Later: "the fox"."""


def wording_of(looks: str, short: str | None = None) -> Wording:
    """The words for somebody who looks so; without a short form, the description's head with "the"."""
    looks = looks.strip()
    head = _DETAILS.sub("", looks) or looks
    first, _, rest = head.partition(" ")
    return Wording(looks, short.strip() if short else f"the {rest if first.lower() in _ARTICLES and rest else head}")


@dataclass(frozen=True, kw_only=True)
class PanelPrompt:
    """What a panel asks the model for."""

    text: str
    negative: str | None
    subjects: dict[str, PanelSubject]
    """Who is in the picture, and how, by id: those named first, in their order."""


def panel_prompt(story: Story, panel: StoryPanel, wordings: Mapping[tuple[str, str | None], Wording]) -> PanelPrompt:
    """Make the prompt of a panel.

    Args:
        story, panel: The panel and its story, checked.
        wordings: {(member, variant): words} of all who are in the story.
    """
    text = unicodedata.normalize("NFC", panel.prompt).strip()
    mentions = [mention for mention in NameFinder(story).find(text) if mention.member is not None]
    subjects = subjects_of(story, panel, mentions)
    writer = _Writer(story, subjects, wordings)
    body = writer.replaced(text, mentions).rstrip(".").rstrip()
    if extra := writer.unmentioned():
        body += f", with {extra}"
    style = style_named(story, panel.style or story.style)
    place = story.places[panel.place].prompt.strip().rstrip(".") if panel.place else ""
    comma = "" if not place or place.split()[0].lower() in _PREPOSITIONS else ","
    parts = [style.before.strip(), body + comma if place else body, place]
    whole = " ".join(part for part in parts if part)
    whole = ", ".join(part for part in (whole, style.after.strip()) if part)
    negative = ", ".join(part for part in (panel.negative, style.negative) if part)
    return PanelPrompt(text=whole, negative=negative or None, subjects=subjects)


def subjects_of(story: Story, panel: StoryPanel, mentions: list[Mention]) -> dict[str, PanelSubject]:
    """Who is in a panel's picture: those whom the prompt names, then those of `cast`, without the absent."""
    listed = {story.member(name) or name: settings for name, settings in panel.cast.items()}
    absent = {story.member(name) for name in panel.absent}
    found: dict[str, PanelSubject] = {}
    for mention in mentions:
        assert mention.member is not None
        own = listed.get(mention.member) or PanelSubject()
        if mention.variant is not None:
            own = own.model_copy(update={"variant": mention.variant})
        if mention.member not in found or mention.variant is not None:
            found[mention.member] = own
    for member, settings in listed.items():
        found.setdefault(member, settings)
    return {member: settings for member, settings in found.items() if member not in absent}


@dataclass
class _Writer:
    """Puts words in the place of names, and knows who has been mentioned."""

    story: Story
    subjects: Mapping[str, PanelSubject]
    wordings: Mapping[tuple[str, str | None], Wording]
    told: set[str] = field(default_factory=set)
    """Described in full."""
    seen: dict[str, str] = field(default_factory=dict)
    """{description in full: member}: a second member of the same description is "another"."""

    def replaced(self, text: str, mentions: list[Mention]) -> str:
        """The text with words for names."""
        parts, end = [], 0
        for mention in mentions:
            before = text[end : mention.start]
            words = self.words(mention)
            if (article := re.search(r"(?i)\b(an?|the)\s+$", before)) is not None:
                words = _without_article(words)
                before = before[: article.start()] + _with_article(article[1], words)
            parts += [before, words]
            end = mention.end
        return "".join([*parts, text[end:]])

    def words(self, mention: Mention) -> str:
        """The words for a mention."""
        assert mention.member is not None
        wording = self._wording(mention.member)
        if not mention.possessive:
            return self._described(mention.member)
        if mention.member in self.told:
            return _possessive(wording.short)
        head = _DETAILS.sub("", wording.full) or wording.full
        if head == wording.full:
            self.told.add(mention.member)
        return _possessive(head)

    def unmentioned(self) -> str:
        """Those in the picture who have not been named, as a list; "" for none."""
        rest = [self._described(member) for member in self.subjects if member not in self.told]
        return " and ".join(filter(None, (", ".join(rest[:-1]), *rest[-1:])))

    def _described(self, member: str) -> str:
        wording = self._wording(member)
        if member in self.told:
            return wording.short
        self.told.add(member)
        if self.seen.setdefault(wording.full, member) != member and wording.full.split()[0].lower() in ("a", "an"):
            return f"another {_without_article(wording.full)}"
        return wording.full

    def _wording(self, member: str) -> Wording:
        settings = self.subjects.get(member)
        return self.wordings[member, None if settings is None else settings.variant]


def _without_article(words: str) -> str:
    first, _, rest = words.partition(" ")
    return rest if first.lower() in (*_ARTICLES, "another") and rest else words


def _with_article(article: str, words: str) -> str:
    """The article that a text had before a name, fitted to the words that follow now."""
    if article.lower() in ("a", "an"):
        fitted = "an" if words[:1].lower() in "aeiou" else "a"
        return f"{fitted.capitalize() if article[0].isupper() else fitted} "
    return f"{article} "


def _possessive(words: str) -> str:
    return f"{words}'" if words.endswith("s") else f"{words}'s"
