"""A scene: who is in it, what the model reads, and the job that draws it. A scene is a story of one panel."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from anystory.cast import Library
from anystory.cast.schema import COLOURS
from anystory.engine.character_mask import feathered
from anystory.engine.job import Job
from anystory.engine.limits import MOST_SEED
from anystory.engine.record.schema import PictureRecord
from anystory.engine.record.shared import HIDDEN
from anystory.pipelines.loading.assets import embedded_models
from anystory.story.library import with_library
from anystory.story.positions import Located
from anystory.story.reading import StoryFile
from anystory.story.runner.plan import plan_panels
from anystory.story.schema import CastMember, PanelSubject, Story, StoryPanel
from anystory.studio.session import PictureEntry, SceneDraft, SceneMember, Session
from anystory.studio.told import FieldError
from anystory.studio.worker.maps import read_maps
from anystory.studio.worker.tasks import DrawScene

__all__ = ["ScenePlan", "plan_scene", "redraw_task", "restored_draft", "scene_task"]


@dataclass(frozen=True, kw_only=True)
class ScenePlan:
    """What a scene asks for."""

    job: Job
    names: tuple[str, ...]
    """Of the subjects, in their order."""
    colours: tuple[str, ...]
    """One for each."""


def plan_scene(session: Session, draft: SceneDraft) -> ScenePlan:
    """What a scene asks for.

    Raises:
        FieldError: no prompt, nobody of that name, or a number that cannot be.
    """
    if not draft.prompt.strip():
        raise FieldError("prompt", "empty_prompt")
    characters = Library(session.settings.library).read().characters
    ids = {one.name: f"c{number}" for number, one in enumerate(characters)}
    gone = [one.name for one in draft.cast if one.name not in ids]
    if gone:
        raise FieldError("cast", "unknown_character", name=gone[0])
    wanted = {
        ids[one.name]: PanelSubject(variant=one.variant, region=None if one.mask else one.region) for one in draft.cast
    }
    size = None if draft.width is None or draft.height is None else (draft.width, draft.height)
    panel = StoryPanel(
        prompt="scene" if draft.verbatim else draft.prompt,
        cast=wanted,
        negative=draft.negative.strip() or None,
        steps=draft.steps,
        guidance=draft.guidance,
        size=size,
        seed=0,
    )
    cast = {ids[one.name]: CastMember(library=f"@{one.name}", name=one.name) for one in characters}
    story = Story(title="scene", cast=cast, panels=(panel,))
    file = with_library(_unwritten(story), session.settings.library)
    [planned] = plan_panels(file, session.folder, "", backgrounds=False)
    job = planned.job
    if draft.verbatim:
        job = replace(job, prompt=draft.prompt.strip())
    job = _with_masks(job, {one.name: session.upload(one.mask) for one in draft.cast if one.mask})
    told = {one.name: one.colour for one in characters}
    names = tuple(subject.name or "" for subject in job.subjects)
    return ScenePlan(job=job, names=names, colours=tuple(told.get(name, COLOURS[0]) for name in names))


def _unwritten(story: Story) -> StoryFile:
    """A story that lies in no file."""
    return StoryFile(path=Path("scene"), story=story, located=Located(file="scene", value={}, values={}, keys={}))


def _with_masks(job: Job, masks: dict[str, Path]) -> Job:
    """The job with painted places."""
    subjects = tuple(replace(one, region_mask=masks[one.name]) if one.name in masks else one for one in job.subjects)
    return replace(job, subjects=subjects)


def scene_task(session: Session, draft: SceneDraft) -> tuple[DrawScene, ScenePlan]:
    """The task that draws a scene; raises as `plan_scene`."""
    plan = plan_scene(session, draft)
    first = secrets.randbelow(MOST_SEED - 64) if draft.seed is None else draft.seed
    seeds = tuple((first + more) % (MOST_SEED + 1) for more in range(draft.pictures))
    task = DrawScene(job=plan.job, seeds=seeds, options=session.options(), out=session.pictures)
    return task, plan


def redraw_task(session: Session, entry: PictureEntry, name: str) -> tuple[DrawScene, ScenePlan]:
    """The task that draws one subject of a picture anew, inside the pixels that its router gave it.

    Raises:
        FieldError: nobody of that name is in the picture, or it has no pixel there.
    """
    import numpy as np
    from PIL import Image

    maps = read_maps(session.picture(entry.stem))
    if maps is None or name not in maps.names:
        raise FieldError("redraw", "not_in_picture", name=name)
    mask = feathered(maps.mask(maps.names.index(name)))
    if not np.any(mask):
        raise FieldError("redraw", "no_pixel", name=name)
    path = session.folder / "masks" / f"{entry.stem}-{maps.names.index(name) + 1}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)
    plan = plan_scene(session, entry.draft)
    job = replace(plan.job, image=session.picture(entry.stem), mask=path, strength=1.0, width=None, height=None)
    seed = secrets.randbelow(MOST_SEED + 1)
    task = DrawScene(job=job, seeds=(seed,), options=session.options(), out=session.pictures)
    return task, replace(plan, job=job)


def restored_draft(session: Session, record: PictureRecord) -> tuple[SceneDraft, dict[str, Any], list[str]]:
    """The scene that a record tells of.

    Returns:
        The scene, the options of its model, and what of it is not here: subjects that are in no library, a model.
    """
    same = [one for one in session.state.pictures if one.sha256 and one.sha256 == record.picture_sha256]
    options = _trusted(session, record)
    if same:
        return same[-1].draft.model_copy(update={"seed": record.seed, "pictures": 1}), options, []
    known = {}
    for one in Library(session.settings.library):
        for variant in (None, *(other.name for other in one.variants)):
            for photo in one.photos_of(variant):
                known.setdefault(photo.cutout.sha256, (one.name, variant))
    cast: list[SceneMember] = []
    missing = [] if options else [Path(record.model).name]
    for subject in record.subjects:
        found = known.get(subject.image.sha256)
        if found is None:
            missing.append(subject.name or subject.image.file)
        else:
            cast.append(SceneMember(name=found[0], variant=found[1], region=subject.region))
    draft = SceneDraft(
        prompt=record.prompt,
        verbatim=True,
        negative=record.negative_prompt or "",
        cast=cast,
        pictures=1,
        seed=record.seed,
        steps=record.steps,
        guidance=record.guidance,
        width=record.width,
        height=record.height,
    )
    return draft, options, missing


def _trusted(session: Session, record: PictureRecord) -> dict[str, Any]:
    """The model of a record, which may come from anybody: no path of its own is followed.

    A record inside a picture has only the name of the model's folder: it means the model in use if that has the name.
    """
    from anystory.engine.inventory.describe import cached_models

    used = session.options().absolute()
    known = {None: None} | {name: name for name in (*embedded_models(), *cached_models())}
    for place in (used.model, used.adapter):
        if place is not None:
            known |= {place: place, f"{HIDDEN}{Path(place).name}": place}
    if record.model not in known or record.adapter not in known:
        return {}
    return {"model": known[record.model], "adapter": known[record.adapter]}
