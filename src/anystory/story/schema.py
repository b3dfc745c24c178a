"""The story file as classes. Nothing heavy is imported.

    format: anystory-story/1
    title: The balloon
    cast:
      mara: {looks: a fox, photos: mara.png}
    panels:
      - prompt: Mara waving on a beach
        dialogue:
          - mara: Hello!

`reading.read_story` reads one and says where something is wrong; `json_schema` is for editors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from anystory.engine.limits import MOST_SEED, MOST_STEPS

__all__ = [
    "FORMAT",
    "CastMember",
    "Layout",
    "Look",
    "PanelSubject",
    "SpokenLine",
    "Story",
    "StoryPanel",
    "StoryPhoto",
    "StoryPlace",
    "Style",
    "json_schema",
    "split_variant",
]

FORMAT = "anystory-story/1"

_ID = r"^[^\W\d_][\w-]{0,63}$"
Id: TypeAlias = Annotated[str, Field(pattern=_ID)]
"""A letter of any script, then letters, digits, hyphens and underscores."""
Seed: TypeAlias = Annotated[int, Field(ge=0, le=MOST_SEED)]
Strength: TypeAlias = Annotated[float, Field(ge=0)]
Side: TypeAlias = Annotated[int, Field(ge=1, le=65536)]
Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]
SpeechKind: TypeAlias = Literal["speech", "thought", "shout", "whisper"]
Transition: TypeAlias = Literal["cut", "fade", "dissolve", "wipe"]


class StoryPart(BaseModel):
    """What all parts of a story have in common: no unknown entries, and nothing changes once it is read."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        coerce_numbers_to_str=True,
        use_attribute_docstrings=True,
        populate_by_name=True,
    )


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, (str, Mapping)) else value


def _as_size(value: Any) -> Any:
    """`512` and `640x512` as (640, 512)."""
    if isinstance(value, int) and not isinstance(value, bool):
        return (value, value)
    if isinstance(value, str) and (found := re.fullmatch(r"\s*(\d{1,6})\s*(?:[x×]\s*(\d{1,6})\s*)?", value)):
        return (int(found[1]), int(found[2] or found[1]))
    return value


Size: TypeAlias = Annotated[tuple[Side, Side], BeforeValidator(_as_size, json_schema_input_type=Any)]


class Style(StoryPart):
    """Words that every prompt gets. A text alone is `after`."""

    before: str = ""
    """In front of the prompt: "a watercolour of"."""
    after: str = ""
    """Behind it: "soft light, muted colours"."""
    negative: str = ""
    """What not to draw."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"after": value} if isinstance(value, str) else value


class StoryPhoto(StoryPart):
    """A picture of somebody. A text alone is `image`."""

    image: str
    """A path, relative to the story file."""
    mask: str | None = None
    """A picture of the same size, white where the character is."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"image": value} if isinstance(value, str) else value


class Look(StoryPart):
    """How somebody looks: one source of pictures, and the words for prompts."""

    library: str | None = None
    """A character of the library: "@mara", or "@mara@winter" for a variant."""
    photos: Annotated[tuple[StoryPhoto, ...], BeforeValidator(_as_list)] = ()
    """Pictures of the same character."""
    storyworld: str | None = None
    """A description from which StoryWorld draws the picture: "a striped blue fox with a red scarf". For the embedded
    model, which knows such characters."""
    looks: str | None = None
    """Words that take the name's place in prompts: "a fox in a red coat". Models do not know your characters' names."""
    short: str | None = None
    """The same when it is mentioned again: "the fox". By default made from `looks`."""
    segmenter: str = "auto"
    """How to cut out photos without mask or transparency; see `anystory cutout`."""

    @field_validator("library")
    @classmethod
    def _at(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith("@"):
            raise ValueError(f'must begin with @, as "@{value}" does')
        return value

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"library": value} if value.startswith("@") else {"photos": value}
        return value

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the fields that say where pictures come from."""
        return tuple(name for name in ("library", "photos", "storyworld") if getattr(self, name))


class CastMember(Look):
    """Somebody in the story. A text alone is `library` if it begins with @, else a path."""

    name: str | None = None
    """As it stands in prompts and balloons; by default the id, with a capital."""
    aliases: tuple[str, ...] = ()
    """Other names: "Granny"."""
    colour: Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")] | None = None
    """Of its balloons and overlays: "#c04030"."""
    seed: int = 0
    """For what a StoryWorld description leaves open."""
    variants: dict[Id, Look] = {}
    """Other looks of the same character; `{mara@winter}` in a prompt, or `variant` in a panel."""

    def look(self, variant: str | None = None) -> Look:
        """How it looks in a variant: what that leaves open is the character's own.

        Raises:
            KeyError: there is no such variant.
        """
        if variant is None:
            return self
        other = self.variants[variant]
        own = {name: getattr(self, name) for name in Look.model_fields}
        if other.sources:
            own |= {"library": None, "photos": (), "storyworld": None}
        return Look.model_construct(**own | {name: getattr(other, name) for name in other.model_fields_set})


class StoryPlace(StoryPart):
    """Where something happens. A text alone is `prompt`."""

    name: str | None = None
    """For people; prompts do not use it."""
    prompt: str
    """Words that prompts get: "on a beach at dusk"."""
    picture: str | None = None
    """A picture of it, which panels are drawn over."""
    strength: Share = 0.8
    """How much of the picture to change."""
    seed: Seed | None = None
    """Of the noise outside the characters, which its panels share; by default it follows from the story's seed."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"prompt": value} if isinstance(value, str) else value


class SpokenLine(StoryPart):
    """Something that is said. `{mara: Hello!}` is the short form."""

    speaker: str
    """An id or a name of the cast."""
    text: str
    """As it is lettered."""
    kind: SpeechKind = "speech"
    """How it is said."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and "speaker" not in value:
            own = {name: value[name] for name in value if name not in ("kind", "text")}
            if len(own) == 1 and "text" not in value:
                ((speaker, text),) = own.items()
                return {"speaker": speaker, "text": text, **({"kind": value["kind"]} if "kind" in value else {})}
        return value


class PanelSubject(StoryPart):
    """How somebody is in one panel."""

    variant: str | None = None
    """One of its variants."""
    region: tuple[Share, Share, Share, Share] | None = None
    """The box that it fills, (left, top, right, bottom) in shares of the picture; by default the model chooses."""
    scale: Strength = 1.0
    """How strongly it is itself."""
    reference_scale: Strength = 1.0
    """How strongly its details come through."""

    @field_validator("region")
    @classmethod
    def _box(cls, value: tuple[float, float, float, float] | None) -> tuple[float, float, float, float] | None:
        if value is not None and not (value[0] < value[2] and value[1] < value[3]):
            raise ValueError(f"must be left, top, right, bottom with left < right and top < bottom, got {list(value)}")
        return value


def _as_subjects(value: Any) -> Any:
    """`[mara, {fox: {variant: winter}}]` as {mara: {}, fox: {variant: winter}}."""
    if isinstance(value, str):
        value = [value]
    if isinstance(value, list):
        found: dict[Any, Any] = {}
        for entry in value:
            found |= entry if isinstance(entry, Mapping) else {entry: {}}
        value = found
    if isinstance(value, Mapping):
        return {name: {} if settings is None else settings for name, settings in value.items()}
    return value


class StoryPanel(StoryPart):
    """One picture of the story, with its text. A text alone is `prompt`."""

    id: Id | None = None
    """Your name for it. A panel's seed follows from it; without one, from the prompt."""
    prompt: str
    """What is seen. Names become the words of the cast; `{mara}` is a name for certain."""
    place: str | None = None
    """One of `places`."""
    cast: Annotated[dict[str, PanelSubject], BeforeValidator(_as_subjects, json_schema_input_type=Any)] = {}
    """Who is there besides those whom the prompt names, and how: a list of ids, or settings by id."""
    absent: tuple[str, ...] = ()
    """Who is named but not there."""
    narration: str = ""
    """The text of its caption."""
    dialogue: tuple[SpokenLine, ...] = ()
    """What is said, in order."""
    alt: str = ""
    """What a reader hears who cannot see it; by default the prompt."""
    transition: Transition = "cut"
    """How the next panel follows."""
    style: str | None = None
    """Another style than the story's."""
    seed: Seed | None = None
    """Of its noise."""
    size: Size | None = None
    """Width and height in pixels: 512, "640x512" or [640, 512]; by default the story's."""
    steps: Annotated[int, Field(ge=1, le=MOST_STEPS)] | None = None
    """Sampling steps."""
    guidance: float | None = None
    """Guidance scale."""
    negative: str | None = None
    """What not to draw, besides what the style says."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"prompt": value} if isinstance(value, str) else value


class Layout(StoryPart):
    """How panels come onto pages. A text alone is `template`."""

    template: str = "auto"
    """The template of all pages that `pages` does not name: full, two, three, four, six, strip or webtoon; auto takes
    what fits."""
    pages: tuple[str, ...] = ()
    """The template of the first page, of the second, …"""
    direction: Literal["auto", "ltr", "rtl"] = "auto"
    """Reading direction; auto is that of the language."""
    page: Literal["auto", "portrait", "square", "landscape"] = "auto"
    """Shape of the pages: 6 × 9, 8 × 8 or 9 × 6 inches; auto takes the one nearest to the pictures."""
    cover: bool = True
    """Whether a cover with title and author comes first."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"template": value} if isinstance(value, str) else value


class Story(StoryPart):
    """A whole story file."""

    format: Literal["anystory-story/1"] = FORMAT
    """Of this file."""
    schema_: str | None = Field(default=None, alias="$schema")
    """Where an editor finds the JSON Schema."""
    title: str
    """Of the book."""
    author: str = ""
    """Who wrote it."""
    language: Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$")] = "en"
    """Of the text, as in "en", "de-AT" or "zh-Hans"."""
    style: str | None = None
    """One of `styles`, or a preset."""
    styles: dict[Id, Style] = {}
    """Your own styles."""
    cast: dict[Id, CastMember] = {}
    """Who is in the story, by id."""
    places: dict[Id, StoryPlace] = {}
    """Where it happens, by id."""
    layout: Layout = Layout()
    """How panels come onto pages."""
    seed: Seed = 0
    """Of the story: every panel's own seed follows from it."""
    size: Size | None = None
    """Width and height of the panels in pixels; by default the model's."""
    steps: Annotated[int, Field(ge=1, le=MOST_STEPS)] | None = None
    """Sampling steps; by default the model's."""
    guidance: float | None = None
    """Guidance scale; by default the model's."""
    panels: Annotated[tuple[StoryPanel, ...], Field(min_length=1)]
    """The pictures, in order."""

    def display_name(self, member: str) -> str:
        """The name of a cast member, as it stands in balloons."""
        return self.cast[member].name or member[:1].upper() + member[1:]

    def member(self, name: str) -> str | None:
        """The id of a cast member by id, name or alias, in any case; None if there is none."""
        folded = name.casefold()
        for member, who in self.cast.items():
            if folded in {known.casefold() for known in (member, self.display_name(member), *who.aliases)}:
                return member
        return None


def split_variant(name: str) -> tuple[str, str | None]:
    """`mara@winter` as ("mara", "winter")."""
    member, at, variant = name.partition("@")
    return member, variant if at else None


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a story file, with the short forms that a file may use."""
    schema = Story.model_json_schema(by_alias=True)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "AnyStory story"
    for name, field in _SHORT_FORMS.items():
        part = schema["$defs"].pop(name)
        short = {"type": "string", "description": f"Short for {{{field}: …}}."}
        schema["$defs"][name] = {"description": part.pop("description", ""), "anyOf": [part, short]}
    line = schema["$defs"].pop("SpokenLine")
    short = {
        "type": "object",
        "minProperties": 1,
        "maxProperties": 2,
        "properties": {"kind": line["properties"]["kind"]},
        "additionalProperties": {"type": "string"},
        "not": {"required": ["speaker"]},
        "description": "Short: the speaker, then the text.",
    }
    schema["$defs"]["SpokenLine"] = {"description": line.pop("description", ""), "anyOf": [line, short]}
    photos = {"anyOf": [{"type": "array", "items": {"$ref": "#/$defs/StoryPhoto"}}, {"$ref": "#/$defs/StoryPhoto"}]}
    for look in ("Look", "CastMember"):
        schema["$defs"][look]["anyOf"][0]["properties"]["photos"] |= photos
        del schema["$defs"][look]["anyOf"][0]["properties"]["photos"]["type"]
        del schema["$defs"][look]["anyOf"][0]["properties"]["photos"]["items"]
    return schema


_SHORT_FORMS = {
    "CastMember": "photos",
    "Layout": "template",
    "Look": "photos",
    "StoryPhoto": "image",
    "StoryPlace": "prompt",
    "StoryPanel": "prompt",
    "Style": "after",
}
"""Class -> the entry that a text alone stands for."""
