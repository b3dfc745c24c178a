"""The pictures of a browser: drawn, listed, looked at with their maps, downloaded, and scenes restored from records."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image
from pydantic import ValidationError

from anystory.engine.record.reading import load_record
from anystory.studio.packed import png_bytes, zip_bytes
from anystory.studio.session import PictureEntry, SceneDraft, Session
from anystory.studio.tabs.scene import ScenePlan, plan_scene, redraw_task, restored_draft, scene_task
from anystory.studio.told import FieldError, invalid
from anystory.studio.worker.events import PictureKept, WorkerEvent
from anystory.studio.worker.maps import RoutingMaps8, read_maps
from anystory.studio.worker.tasks import DrawScene

__all__ = ["ACTIONS", "download", "draft_of", "keeper", "maps_of", "prepared", "shown"]


def shown(session: Session) -> dict[str, Any]:
    """The scene and the gallery, newest first."""
    return {
        "scene": session.state.scene.model_dump(),
        "pictures": [_picture(session, entry) for entry in reversed(session.state.pictures)],
    }


def _picture(session: Session, entry: PictureEntry) -> dict[str, Any]:
    path = session.picture(entry.stem)
    width = height = 0
    if path.is_file():
        with Image.open(path) as picture:
            width, height = picture.size
    told = entry.model_dump(include={"stem", "seed", "prompt", "names", "colours", "redrawn"})
    settings = entry.draft.model_dump(exclude={"cast", "prompt"})
    return {**told, "width": width, "height": height, "settings": settings, "url": f"/files/picture/{entry.stem}.png"}


def draft_of(payload: dict[str, Any]) -> SceneDraft:
    """The scene that the page sent.

    Raises:
        FieldError: a number out of its range.
    """
    try:
        return SceneDraft.model_validate(payload.get("scene") or {})
    except ValidationError as error:
        raise invalid(error, "prompt") from None


def save(session: Session, payload: dict[str, Any]) -> dict[str, Any]:
    """Keep the scene as it stands, and tell what the model would read."""
    draft = draft_of(payload)
    session.state.scene = draft
    session.save()
    try:
        plan = plan_scene(session, draft)
    except ValueError:  # not finished yet: drawing tells what is missing
        return {"reads": "", "subjects": []}
    colours = zip(plan.names, plan.colours, strict=True)
    return {"reads": plan.job.prompt, "subjects": [[name, colour] for name, colour in colours]}


def prepared(session: Session, payload: dict[str, Any]) -> tuple[DrawScene, Callable[[WorkerEvent], None]]:
    """The task that draws the scene, or one of its subjects anew, and what keeps its pictures."""
    if payload.get("redraw"):
        entry = session.entry(payload["picture"])
        task, plan = redraw_task(session, entry, payload["redraw"])
        return task, keeper(session, entry.draft, plan, redrawn=payload["redraw"])
    draft = draft_of(payload)
    session.state.scene = draft
    session.save()
    task, plan = scene_task(session, draft)
    return task, keeper(session, draft, plan)


def keeper(
    session: Session, draft: SceneDraft, plan: ScenePlan, *, redrawn: str | None = None
) -> Callable[[WorkerEvent], None]:
    """What puts each picture that is drawn into the gallery."""

    def keep(event: WorkerEvent) -> None:
        if isinstance(event, PictureKept):
            entry = PictureEntry(
                stem=event.picture.stem,
                seed=event.seed,
                sha256=event.sha256,
                prompt=draft.prompt,
                names=list(plan.names),
                colours=list(plan.colours),
                draft=draft.model_copy(update={"seed": event.seed, "pictures": 1}),
                redrawn=redrawn,
            )
            with session.lock:
                session.state.pictures = [*session.state.pictures, entry]
            session.save()

    return keep


def maps(session: Session, payload: dict[str, Any]) -> dict[str, Any]:
    """What there is to be seen of a picture's routing."""
    found = maps_of(session, payload["picture"])
    if found is None:
        return {"steps": 0, "layers": [], "names": [], "shares": []}
    shares = [float(found.mask(number).mean()) for number in range(len(found.names))]
    boxes = [_box(found.mask(number)) for number in range(len(found.names))]
    return {
        "steps": len(found.steps),
        "layers": list(found.layers),
        "names": list(found.names),
        "shares": shares,
        "boxes": boxes,
    }


def _box(mask: np.ndarray) -> list[float] | None:
    """The box around a mask, in shares of the picture."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    height, width = mask.shape
    return [columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height]


def maps_of(session: Session, stem: str) -> RoutingMaps8 | None:
    """A picture's maps; raises ValueError as `Session.entry`."""
    return read_maps(session.picture(stem))


def forget(session: Session, payload: dict[str, Any]) -> dict[str, Any]:
    """Take a picture out of the gallery; its files stay."""
    gone = session.entry(payload["picture"])
    session.state.pictures = [one for one in session.state.pictures if one is not gone]
    session.save()
    return shown(session)


def restore(session: Session, payload: dict[str, Any]) -> dict[str, Any]:
    """Set the scene as it was when a picture was drawn, from the gallery, a record, or a PNG that holds one."""
    if "picture" in payload:
        draft, missing = session.entry(payload["picture"]).draft, []
    else:
        path = session.upload(payload["upload"])
        try:
            draft, options, missing = restored_draft(session, load_record(path))
        except (ValueError, OSError) as error:
            text = " ".join(str(error).replace(str(path), path.name).split())
            raise FieldError("record", "plain", text=text) from None
        session.state.options = {**session.state.options, **options}
    session.state.scene = draft
    session.save()
    return {**shown(session), "missing": missing}


def upload_mask(session: Session, payload: dict[str, Any]) -> dict[str, Any]:
    """Keep what was painted, a PNG as a data URL: white where the paint is.

    Raises:
        ValueError: no such picture, or nothing painted.
    """
    head, _, data = payload["image"].partition(",")
    try:
        with Image.open(io.BytesIO(base64.b64decode(data, validate=True)), formats=["PNG"]) as picture:
            grey = picture.convert("L")
    except (OSError, ValueError):
        raise ValueError(f"this is no painted mask ({head[:40]!r}): paint it again") from None
    if grey.getbbox() is None:
        raise FieldError(payload.get("field") or "photo", "nothing_painted")
    return {"upload": session.keep_upload("mask.png", png_bytes(grey))}


def download(session: Session, stem: str, what: str) -> tuple[str, bytes]:
    """What can be had of a picture: its name and its bytes.

    Args:
        session: Whose.
        stem: Of the picture.
        what: "picture", "record", "masks", "layers" or "all".

    Raises:
        ValueError: there is no such picture or thing.
    """
    picture = session.picture(stem)
    if what == "picture":
        return picture.name, picture.read_bytes()
    if what == "record":
        return f"{stem}.json", picture.with_suffix(".json").read_bytes()
    if what == "layers":
        return f"{stem}.ora", _layers(session, stem)
    if what == "masks":
        return f"{stem}-masks.zip", zip_bytes(_masks(session, stem))
    if what == "all":
        return f"{stem}.zip", zip_bytes({**_masks(session, stem), **_files(session, stem)})
    raise ValueError(f"there is nothing called {what!r} to download")


def _masks(session: Session, stem: str) -> dict[str, bytes]:
    """One picture for each subject, white where it is."""
    found = maps_of(session, stem)
    if found is None:
        return {}
    files = {}
    for number, name in enumerate(found.names):
        mask = Image.fromarray(found.mask(number).astype(np.uint8) * 255)
        files[f"{stem}-{_plain(name)}.png"] = png_bytes(mask)
    return files


def _files(session: Session, stem: str) -> dict[str, bytes]:
    """A picture with its record, the copies of its references, and the sheet of its maps."""
    picture = session.picture(stem)
    record = load_record(picture.with_suffix(".json"))
    names = [picture.name, f"{stem}.json", *(file.file for file in record.files)]
    names += [record.routing_sheet] if record.routing_sheet else []
    return {name: (picture.parent / name).read_bytes() for name in dict.fromkeys(names)}


def _layers(session: Session, stem: str) -> bytes:
    """The picture as an OpenRaster file: the background and each subject on a layer of its own."""
    from anystory.story.book.contents import BookContents, PanelArt
    from anystory.story.book.exports.layers import write_layers
    from anystory.story.book.pages.page import PageLayout, lay_out

    found = maps_of(session, stem)
    with Image.open(session.picture(stem)) as opened:
        picture = opened.convert("RGB")
    masks = {} if found is None else {name: found.mask(number) for number, name in enumerate(found.names)}
    book = BookContents(title=stem, panels=(PanelArt(number=1, picture=picture, masks=masks),))
    laid_out = lay_out(book, PageLayout(templates=("full",), cover=False))
    with TemporaryDirectory(prefix="anystory-layers-") as folder:
        write_layers(laid_out, Path(folder), 72)
        [path] = Path(folder).iterdir()
        return path.read_bytes()


def _plain(name: str) -> str:
    return "".join(sign if sign.isalnum() else "-" for sign in name) or "subject"


ACTIONS: dict[str, Callable[[Session, dict[str, Any]], dict[str, Any]]] = {
    "scene": lambda session, payload: shown(session),
    "scene.save": save,
    "scene.maps": maps,
    "scene.forget": forget,
    "scene.restore": restore,
    "mask": upload_mask,
}
"""What the page may ask for."""
