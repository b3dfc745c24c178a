"""A story that somebody sent, made safe: it names uploads and characters, never files, and keeps to the bounds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from anystory.files import atomic_write
from anystory.serving.api.given import GivenFiles, find_upload
from anystory.serving.errors import ApiError
from anystory.story.check import check_story
from anystory.story.library import with_library
from anystory.story.positions import StoryProblems
from anystory.story.reading import StoryFile, read_story
from anystory.story.schema import Look, Story, StoryPhoto, StoryPlace
from anystory.subjects.cutout import BUILT_IN_SEGMENTERS

__all__ = ["write_story_file"]

_SHOWN = 20
"""Problems that one answer tells."""


def write_story_file(path: Path, story: dict[str, Any], given: GivenFiles) -> Story:
    """Check a story and write it, with copies of its pictures.

    Args:
        path: Where to, in the job's folder.
        story: As it was sent: pictures are ids of uploads.
        given: Keeps the pictures.

    Raises:
        ApiError: all that is wrong with it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, json.dumps(story, indent=1))
    try:
        file = read_story(path)
        _check_bounds(file.story, given)
        file = _with_uploads(file, given)
        file = _with_characters(with_library(file, given.service.data.cast(given.key.name)), given)
        _write(path, file.story.model_dump_json(indent=1, by_alias=True, exclude_unset=True))
        check_story(read_story(path)).raise_errors()
    except StoryProblems as found:
        texts = [_without_folder(problem.text, given) for problem in found.problems[:_SHOWN]]
        raise ApiError(400, "; ".join(texts), param="story", more={"problems": texts}) from None
    except ValueError as error:
        raise ApiError(400, _without_folder(str(error), given), param="story") from None
    return file.story


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def _without_folder(text: str, given: GivenFiles) -> str:
    return text.replace(f"{given.service.data.root}/", "")


def _check_bounds(story: Story, given: GivenFiles) -> None:
    bounds = given.service.settings.bounds
    sizes = [story.size, *(panel.size for panel in story.panels)]
    for name, value, most in (
        ("panels", len(story.panels), bounds.panels),
        ("cast", len(story.cast), bounds.panels),
        ("steps", max([story.steps or 1, *(panel.steps or 1 for panel in story.panels)]), bounds.steps),
        ("size", max(width * height for width, height in (size or (1, 1) for size in sizes)), bounds.pixels),
        ("prompt", max(len(panel.prompt) for panel in story.panels), bounds.prompt),
    ):
        if value > most:
            raise ApiError(400, f"{name} must be at most {most:,} on this server, got {value:,}", param=f"story.{name}")


def _with_uploads(file: StoryFile, given: GivenFiles) -> StoryFile:
    """The story with the files of its uploads; what else it names is refused."""

    def kept(upload: str) -> str:
        return given.upload(find_upload(given.service, given.key, upload, "story")).as_posix()

    def photo(one: StoryPhoto) -> StoryPhoto:
        return StoryPhoto(image=kept(one.image), mask=None if one.mask is None else kept(one.mask))

    def place(one: StoryPlace) -> StoryPlace:
        return one if one.picture is None else one.model_copy(update={"picture": kept(one.picture)})

    def look(one: Any) -> Any:
        if one.segmenter not in BUILT_IN_SEGMENTERS:
            known = ", ".join(sorted(BUILT_IN_SEGMENTERS))
            raise ApiError(400, f"segmenter must be one of {known}, got {one.segmenter!r}", param="story")
        return one.model_copy(update={"photos": tuple(map(photo, one.photos))}) if one.photos else one

    places = {name: place(one) for name, one in file.story.places.items()}
    story = _with_looks(file.story, look)
    return replace(file, story=story.model_copy(update={"places": places}) if places else story)


def _with_characters(file: StoryFile, given: GivenFiles) -> StoryFile:
    """The story with copies of the library's cut-outs, which are absolute paths by now."""

    def photo(one: StoryPhoto) -> StoryPhoto:
        path = Path(one.image)
        return StoryPhoto(image=given.keep(path).as_posix()) if path.is_absolute() else one

    def look(one: Any) -> Any:
        return one.model_copy(update={"photos": tuple(map(photo, one.photos))}) if one.photos else one

    return replace(file, story=_with_looks(file.story, look))


def _with_looks(story: Story, change: Any) -> Story:
    """A story in which every look of its cast is changed."""
    cast = {}
    for name, who in story.cast.items():
        variants: dict[str, Look] = {variant: change(look) for variant, look in who.variants.items()}
        changed = change(who)
        cast[name] = changed.model_copy(update={"variants": variants}) if variants else changed
    return story.model_copy(update={"cast": cast})
