"""Scripts in plain Markdown or Fountain.

    # The lost balloon                      Title: The lost balloon
    ## Cast                                 Author: Me
    - Mara: a fox (mara.png)
    ## Panel 1: meadow                      EXT. MEADOW - DAY
    Mara waving                             Mara waves.
    > One morning.                          NARRATOR
    MARA: Hello!                            One morning.
    BO (whispering): Hi.                    MARA
                                            (shouting)
                                            Hello!

What is neither a heading, nor said, nor quoted is what is seen. In a scene of Fountain, what is seen after something
was said is the next panel.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anystory.input_files import read_text
from anystory.story.positions import Mark, Problem, StoryProblems

__all__ = ["read_script"]

_SCENE = re.compile(r"(?i)^(?:\.(?!\.)|(?:int|ext|est|int\./ext|i/e)[. ]+)\s*(.+)$")
_PANEL = re.compile(r"(?i)^(?:panel|page|scene|shot)?\s*[\d.]*\s*[:.–—-]?\s*(.*)$")
_SPOKEN = re.compile(r"^\**([^\W\d_][^:()*]{0,40}?)\**\s*(?:\(([^)]*)\))?\s*\**:\**\s+(.+)$")
_CUE = re.compile(r"^@?([^\W\d_][^()]{0,40}?)\s*(?:\(([^)]*)\))?\s*\^?$")
_MEMBER = re.compile(r"^[-*]\s+\**([^:*]+?)\**\s*:\**\s*(.*?)\s*(?:\(([^()]+\.\w{3,4})\))?$")
_TITLE_PAGE = re.compile(
    r"^(title|author|authors|credit|language|draft date|contact|source)\s*:\s*(.*)$", re.IGNORECASE
)
_KINDS = (("whisper", "whisper"), ("shout", "shout"), ("yell", "shout"), ("scream", "shout"), ("think", "thought"),
          ("thought", "thought"))  # fmt: skip
_NARRATORS = ("narrator", "narration", "caption")


@dataclass
class _Panel:
    """A panel as it is read."""

    place: str = ""
    seen: list[str] = field(default_factory=list)
    narration: list[str] = field(default_factory=list)
    lines: list[dict[str, str]] = field(default_factory=list)

    @property
    def has_text(self) -> bool:
        return bool(self.narration or self.lines)


def read_script(path: Path) -> dict[str, Any]:
    """A script as a story file's content. Who speaks is its cast, without pictures unless the script names them.

    Raises:
        StoryProblems: it has no panels.
        ValueError, OSError: it cannot be read.
    """
    reader = _Reader()
    for line in read_text(path, "save it as UTF-8").removeprefix("\ufeff").splitlines():
        reader.read(line.rstrip())
    story = reader.story(path.stem)
    if not story["panels"]:
        text = 'has no panels: a panel begins with "## Panel", or with "INT." or "EXT." and its place'
        raise StoryProblems([Problem(str(path), Mark(1, 1), text)])
    return story


class _Reader:
    """Reads a script line by line."""

    def __init__(self) -> None:
        self.about: dict[str, str] = {}
        self.cast: dict[str, dict[str, Any]] = {}
        self.panels: list[_Panel] = []
        self.in_cast = False
        self.is_fountain = False
        self.speaker: tuple[str, str] | None = None
        """Name and kind of a cue whose text follows."""

    def read(self, line: str) -> None:
        """Take the next line."""
        text = line.strip()
        if not text:
            self.speaker = None
        elif self.speaker is not None:
            self._after_cue(text)
        elif text.startswith("#"):
            self._heading(text)
        elif scene := _SCENE.match(text):
            self.is_fountain = True
            self.panels.append(_Panel(place=scene[1].strip()))
        elif self.in_cast:
            self._member(text)
        elif not self.panels:
            if found := _TITLE_PAGE.match(text):
                self.about[found[1].lower()] = found[2].strip()
        else:
            self._in_panel(self.panels[-1], text)

    def _heading(self, text: str) -> None:
        level = len(text) - len(text.lstrip("#"))
        title = text.lstrip("#").strip()
        self.in_cast = title.casefold() in ("cast", "characters", "figuren", "personnages", "personajes")
        if self.in_cast:
            return
        if level == 1 and not self.panels and "title" not in self.about:
            self.about["title"] = title
        elif level >= 2:
            found = _PANEL.match(title)
            self.panels.append(_Panel(place=found[1].strip() if found else ""))

    def _member(self, text: str) -> None:
        if found := _MEMBER.match(text):
            own = {"looks": found[2]} if found[2] else {}
            self.cast[found[1].strip()] = own | ({"photos": found[3]} if found[3] else {})

    def _in_panel(self, panel: _Panel, text: str) -> None:
        if text.startswith(">"):
            panel.narration.append(text.lstrip("> ").rstrip("< "))
        elif spoken := _SPOKEN.match(text):
            self._say(panel, spoken[1], _kind(spoken[2]), spoken[3])
        elif (cue := _CUE.match(text)) and (text.startswith("@") or (text.isupper() and self.is_fountain)):
            self.speaker = (cue[1], _kind(cue[2]))
        else:
            if self.is_fountain and panel.seen and panel.has_text:
                panel = _Panel(place=panel.place)
                self.panels.append(panel)
            panel.seen.append(text)

    def _after_cue(self, text: str) -> None:
        assert self.speaker is not None
        name, kind = self.speaker
        if text.startswith("(") and text.endswith(")"):
            self.speaker = (name, _kind(text))
        else:
            self._say(self.panels[-1], name, kind, text)

    def _say(self, panel: _Panel, name: str, kind: str, text: str) -> None:
        name = name.strip()
        if name.casefold() in _NARRATORS:
            panel.narration.append(text)
            return
        known = next((one for one in self.cast if one.casefold() == name.casefold()), None)
        if known is None:
            known = name.title() if name.isupper() else name
            self.cast[known] = {}
        last = panel.lines[-1] if panel.lines else {}
        if self.speaker is not None and last.get("speaker") == known and last.get("kind") == kind:
            last["text"] += f" {text}"
        else:
            panel.lines.append({"speaker": known, "text": text, "kind": kind})

    def story(self, name: str) -> dict[str, Any]:
        """What has been read, as a story file's content."""
        cast = {_slug(member): {"name": member, **own} for member, own in self.cast.items()}
        places = {_slug(panel.place): panel.place.lower() for panel in self.panels if _slug(panel.place)}
        about = {"title": self.about.get("title") or name}
        for key, given in (("author", "author"), ("author", "authors"), ("language", "language")):
            if self.about.get(given):
                about[key] = self.about[given]
        return {**about, "cast": cast, "places": places, "panels": list(self._panels())}

    def _panels(self) -> Iterator[dict[str, Any]]:
        for panel in self.panels:
            prompt = " ".join(panel.seen) or panel.place
            if not prompt and not panel.has_text:
                continue
            found: dict[str, Any] = {"prompt": prompt or "an empty page"}
            if place := _slug(panel.place):
                found["place"] = place
            if panel.narration:
                found["narration"] = " ".join(panel.narration)
            if panel.lines:
                found["dialogue"] = [_short(line) for line in panel.lines]
            yield found


def _short(line: dict[str, str]) -> dict[str, str]:
    speaker = _slug(line["speaker"])
    if line["kind"] == "speech" and speaker not in ("kind", "text", "speaker"):
        return {speaker: line["text"]}
    return {**line, "speaker": speaker}


def _kind(aside: str | None) -> str:
    """How something is said, by what stands in parentheses."""
    said = (aside or "").casefold()
    return next((kind for word, kind in _KINDS if word in said), "speech")


def _slug(name: str) -> str:
    """An id: letters of any script, digits and hyphens."""
    found = re.sub(r"[^\w]+", "-", name.casefold()).strip("-_")[:64]
    return found if not found or re.match(r"[^\W\d_]", found) else f"x-{found}"[:64]
