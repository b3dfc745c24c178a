"""A story checked before anything is drawn: everything that is wrong at once, with line and column."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from anystory.engine.vocabulary import UnknownWord
from anystory.story.book.pages.templates import template_names
from anystory.story.looks import all_looks, identity_of, story_wordings
from anystory.story.model_facts import ModelFacts
from anystory.story.names import NameFinder, names_of
from anystory.story.positions import Key, Problem, StoryProblems
from anystory.story.prompts import panel_prompt, subjects_of
from anystory.story.reading import StoryFile
from anystory.story.schema import Look, PanelSubject
from anystory.story.styles import PRESETS

__all__ = ["Findings", "check_story"]


@dataclass
class Findings:
    """What is wrong with a story."""

    errors: list[Problem] = field(default_factory=list)
    """The story cannot be drawn."""
    warnings: list[Problem] = field(default_factory=list)
    """It can, but not as it may be meant."""

    def raise_errors(self) -> None:
        """Raise StoryProblems if there are errors."""
        if self.errors:
            raise StoryProblems(self.errors)


def check_story(file: StoryFile, facts: ModelFacts | None = None) -> Findings:
    """Check a story against itself, its files and a model.

    Args:
        file: The story.
        facts: What the model knows; None to leave that out.
    """
    check = _Check(file)
    check.names()
    check.looks()
    check.places_and_styles()
    check.layout()
    check.panels()
    if facts is not None:
        check.subjects(facts.max_subjects)
        check.sizes(facts.size_multiple)
        check.words(facts.unknown_words)
        check.lengths(facts.cut)
    return check.findings


class _Check:
    """The checks of one story."""

    def __init__(self, file: StoryFile) -> None:
        self.file, self.story = file, file.story
        self.findings = Findings()
        self.finder = NameFinder(file.story)

    def error(self, *where: Key, text: str, at_key: bool = False) -> None:
        self.findings.errors.append(self.file.problem(*where, text=text, at_key=at_key))

    def warn(self, *where: Key, text: str) -> None:
        self.findings.warnings.append(self.file.problem(*where, text=text))

    def names(self) -> None:
        """Names that two members share."""
        owners: dict[str, str] = {}
        for member in self.story.cast:
            for name in dict.fromkeys(known.casefold() for known in (member, *names_of(self.story, member))):
                first = owners.setdefault(name, member)
                if first != member:
                    text = f"{member!r} has the name {name!r}, which {first!r} has already: give them other names"
                    self.error("cast", member, text=text, at_key=True)

    def looks(self) -> None:
        """Pictures of everybody, and words for them."""
        for member, variant, look in all_looks(self.story):
            where = ("cast", member) if variant is None else ("cast", member, "variants", variant)
            if len(look.sources) > 1:
                text = f"has {' and '.join(look.sources)}: give one of them"
                self.error(*where, text=text, at_key=True)
            self._photos(look, where)
            if look.storyworld:
                self._description(look, self.story.cast[member].seed, where)
            elif variant is None and not look.looks and look.library is None and look.sources:
                name = self.story.display_name(member)
                text = f"{member!r} has no `looks`: prompts keep the name {name!r}, which no model knows"
                self.findings.warnings.append(self.file.problem(*where, text=text, at_key=True))

    def _photos(self, look: Look, where: tuple[Key, ...]) -> None:
        for number, photo in enumerate(look.photos):
            for name, path in (("image", photo.image), ("mask", photo.mask)):
                if path is not None and not (self.file.folder / path).is_file():
                    self.error(*where, "photos", number, name, text=f"there is no file {path}")

    def _description(self, look: Look, seed: int, where: tuple[Key, ...]) -> None:
        try:
            _, not_understood = identity_of(look, seed)
        except ValueError as error:
            self.error(*where, "storyworld", text=str(error))
            return
        for text in not_understood:
            self.warn(*where, "storyworld", text=text)

    def places_and_styles(self) -> None:
        """Pictures of places, and the story's style."""
        for name, place in self.story.places.items():
            if place.picture is not None and not (self.file.folder / place.picture).is_file():
                self.error("places", name, "picture", text=f"there is no file {place.picture}")
        self._style("style", name=self.story.style)

    def _style(self, *where: Key, name: str | None) -> None:
        known = {*PRESETS, *self.story.styles}
        if name is not None and name not in known:
            self.error(*where, text=f"there is no style {name!r}{_near(name, known)}")

    def layout(self) -> None:
        """Page templates."""
        known = ["auto", *template_names()]
        if self.story.layout.template not in known:
            self._no_template(self.story.layout.template, known, "layout", "template")
        for number, name in enumerate(self.story.layout.pages):
            if name not in known:
                self._no_template(name, known, "layout", "pages", number)

    def _no_template(self, name: str, known: Iterable[str], *where: Key) -> None:
        text = f"there is no page template {name!r}{_near(name, known)}: choose from {', '.join(known)}"
        self.error(*where, text=text)

    def panels(self) -> None:
        """What panels refer to."""
        ids: dict[str, int] = {}
        for number, panel in enumerate(self.story.panels):
            where = ("panels", number)
            if panel.id is not None and ids.setdefault(panel.id, number) != number:
                text = f"the id {panel.id!r} belongs to panel {ids[panel.id] + 1} already"
                self.error(*where, "id", text=text)
            if panel.place is not None and panel.place not in self.story.places:
                text = f"there is no place {panel.place!r}{_near(panel.place, self.story.places)}"
                self.error(*where, "place", text=text)
            self._style(*where, "style", name=panel.style)
            self._prompt(number)
            self._one_look(number)
            for name in panel.cast:
                self._member(name, *where, "cast", name)
            for place, name in enumerate(panel.absent):
                self._member(name, *where, "absent", place)
            for place, line in enumerate(panel.dialogue):
                self._member(line.speaker, *where, "dialogue", place, "speaker")
            self._present(number)

    def _prompt(self, number: int) -> None:
        panel, where = self.story.panels[number], ("panels", number, "prompt")
        if not panel.prompt.strip():
            self.error(*where, text="`prompt` is empty: say what is seen")
        for mention in self.finder.find(panel.prompt):
            if mention.member is None:
                text = f"{{{mention.name}}} is nobody of the cast{_near(mention.name, self._all_names())}"
                self.error(*where, text=text)
        if set("{}") & set(self._without_names(panel.prompt)):
            self.error(*where, text="has a brace without its other half: names stand in {…}")

    def _one_look(self, number: int) -> None:
        """A picture shows each member once, so in one look."""
        panel = self.story.panels[number]
        given = [(self.story.member(name), settings.variant) for name, settings in panel.cast.items()]
        given += [(mention.member, mention.variant) for mention in self.finder.find(panel.prompt)]
        looks: dict[str, set[str]] = {}
        for member, variant in given:
            if member is not None and variant is not None:
                looks.setdefault(member, set()).add(variant)
        for member, variants in looks.items():
            if len(variants) > 1:
                text = f"{member!r} is here as {' and as '.join(sorted(variants))}: in one panel somebody has one look"
                self.error("panels", number, "prompt", text=text)

    def _without_names(self, text: str) -> str:
        rest, end = [], 0
        for mention in self.finder.find(text):
            rest.append(text[end : mention.start])
            end = mention.end
        return " ".join([*rest, text[end:]])

    def _in_picture(self, number: int) -> dict[str, PanelSubject]:
        panel = self.story.panels[number]
        mentions = [mention for mention in self.finder.find(panel.prompt) if mention.member is not None]
        return subjects_of(self.story, panel, mentions)

    def _member(self, name: str, *where: Key) -> None:
        if self.story.member(name) is None:
            text = f"{name!r} is nobody of the cast{_near(name, self._all_names())}"
            self.error(*where, text=text)

    def _all_names(self) -> list[str]:
        return [name for member in self.story.cast for name in (member, *names_of(self.story, member))]

    def _present(self, number: int) -> None:
        """Those in the picture: do they have one, in the variant that is asked for?"""
        panel = self.story.panels[number]
        for member, settings in self._in_picture(number).items():
            who = self.story.cast.get(member)
            if who is None:
                continue
            if settings.variant is not None and settings.variant not in who.variants:
                text = f"{member!r} has no variant {settings.variant!r}{_near(settings.variant, who.variants)}"
                self.error("panels", number, "cast" if member in panel.cast else "prompt", member, text=text)
            elif not who.look(settings.variant).sources:
                text = (
                    f"{member!r} has no picture, but is in panel {number + 1}: give it `photos`, `library` or"
                    " `storyworld`, or list it under the panel's `absent`"
                )
                self.error("cast", member, text=text, at_key=True)

    def subjects(self, most: int | None) -> None:
        """More subjects than the model has seen together."""
        for number in range(len(self.story.panels)):
            count = len(self._in_picture(number))
            if most == 0 and count:
                text = f"panel {number + 1} has subjects, and this model draws none: it has no adapter"
                self.error("panels", number, "prompt", text=text)
            elif most is not None and count > most:
                text = f"panel {number + 1} has {count} subjects, and this model was trained with at most {most}"
                self.warn("panels", number, "prompt", text=f"{text}: it may mix them up")

    def sizes(self, multiple: int) -> None:
        """Sizes that the model cannot draw."""
        sizes = {("size",): self.story.size} | {
            ("panels", number, "size"): panel.size for number, panel in enumerate(self.story.panels)
        }
        for where, size in sizes.items():
            if size is not None and any(side % multiple for side in size):
                text = f"`size`: this model needs multiples of {multiple}, got {size[0]}×{size[1]}"
                self.error(*where, text=text)

    def words(self, unknown: Callable[[str], list[UnknownWord]]) -> None:
        """Words that the model does not know, once for each text."""
        for where, text in self._texts():
            for word, nearest in unknown(text):
                hint = f"; it knows {', '.join(map(repr, nearest))}" if nearest else ""
                self.warn(*where, text=f"this model does not know the word {word!r}{hint}")

    def lengths(self, cut: Callable[[str], str]) -> None:
        """Prompts that the model does not read to their end; not measured in a story that cannot be drawn."""
        if self.findings.errors:
            return
        wordings = story_wordings(self.story)
        for number, panel in enumerate(self.story.panels):
            if end := cut(panel_prompt(self.story, panel, wordings).text):
                text = f"this model does not read the end of panel {number + 1}'s whole prompt: {end!r}"
                self.warn("panels", number, "prompt", text=text)

    def _texts(self) -> Iterator[tuple[tuple[Key, ...], str]]:
        """Every text that prompts are made of, and where it stands."""
        for member, variant, look in all_looks(self.story):
            where = ("cast", member) if variant is None else ("cast", member, "variants", variant)
            for name in ("looks", "short"):
                if text := getattr(look, name):
                    yield (*where, name), text
        for name, place in self.story.places.items():
            yield ("places", name, "prompt"), place.prompt
        used = {self.story.style: ("style",)} | {
            panel.style: ("panels", number, "style") for number, panel in enumerate(self.story.panels) if panel.style
        }
        for name, where in used.items():
            style = self.story.styles.get(name or "")
            place = ("styles", name) if style is not None and name is not None else where
            style = style or PRESETS.get(name or "plain")
            if style is not None:
                yield place, f"{style.before} {style.after} {style.negative}"
        for number, panel in enumerate(self.story.panels):
            yield ("panels", number, "prompt"), self._without_names(panel.prompt)
            if panel.negative:
                yield ("panels", number, "negative"), panel.negative


def _near(name: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(name, list(dict.fromkeys(known)), 2, 0.6)
    return f"; the nearest are {', '.join(map(repr, found))}" if found else ""
