"""A request for pictures as a job, and a job's results as an answer."""

from __future__ import annotations

import base64
import io
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from anystory.engine.backends.registry import backend_of
from anystory.engine.batching import alike
from anystory.engine.errors import OptionError
from anystory.engine.job import Job
from anystory.engine.limits import check_seeds
from anystory.engine.screening import SMALLEST_MARKED
from anystory.serving.api.given import GivenFiles
from anystory.serving.api.schemas import ImageRequest, SubjectRequest
from anystory.serving.api.waiting import result_of
from anystory.serving.errors import ApiError
from anystory.serving.keys import ApiKey
from anystory.serving.service import Service
from anystory.serving.store.job import NewJob, StoredJob, new_job_id
from anystory.serving.store.uploads import Upload
from anystory.serving.work.picture_work import as_work

__all__ = ["Edit", "as_b64", "check_prompt", "encoded", "images_answer", "new_pictures"]

_USUAL_STEPS = 25
"""To spread previews where the request leaves the steps to the model."""
_PARAMS = {"width": "size", "height": "size", "image": "image"}


@dataclass(frozen=True, kw_only=True)
class Edit:
    """The pictures of a request for an edit."""

    images: tuple[Upload, ...]
    mask: Upload | None
    """White where the first image is drawn anew."""


def new_pictures(
    service: Service,
    key: ApiKey,
    request: ImageRequest,
    edit: Edit | None,
    *,
    repeat_key: str | None,
    digest: str,
) -> NewJob:
    """A job for a request; its files lie in its folder.

    Raises:
        ApiError: the request asks for what cannot be.
    """
    _check_bounds(service, request)
    job = new_job_id()
    try:
        drawn = _job(service, key, request, edit, job)
    except OptionError as error:
        service.data.drop_job(job)
        param = _PARAMS.get(error.option, error.option)
        raise ApiError(400, f"{param} {error.problem}", param=param) from None
    except BaseException:
        service.data.drop_job(job)
        raise
    shown = min(request.partial_images or 0, 3)
    work = as_work(drawn) | {
        "seeds": _seeds(request),
        "previews": max(1, (request.steps or _USUAL_STEPS) // (shown + 1)),
        "routing": request.routing,
    }
    return NewJob(
        id=job,
        owner=key.name,
        kind="picture",
        work=work,
        cost=request.pictures,
        alike=alike(drawn),
        repeat_key=repeat_key,
        digest=digest,
    )


def _check_bounds(service: Service, request: ImageRequest) -> None:
    bounds = service.settings.bounds
    for name, text in (("prompt", request.prompt), ("negative_prompt", request.negative_prompt or "")):
        check_prompt(service, name, text)
    for name, value, most in (
        ("n", request.pictures, bounds.pictures),
        ("steps", request.steps or 1, bounds.steps),
        ("subjects", len(request.subjects or ()), bounds.subjects),
    ):
        if value > most:
            raise ApiError(400, f"{name} must be at most {most} on this server, got {value}", param=name)
    names = {service.settings.model.model, Path(service.settings.model.model).name}
    if request.model is not None and request.model not in names:
        name = Path(service.settings.model.model).name
        raise ApiError(404, f"this server draws with {name!r}, not with {request.model!r}: leave the model out",
                       param="model", code="model_not_found")  # fmt: skip


def check_prompt(service: Service, name: str, text: str) -> None:
    """Raise ApiError for a prompt that is longer than the server takes."""
    if len(text) > (most := service.settings.bounds.prompt):
        said = f"{name} has {len(text):,} characters, more than {most:,}, the most here: shorten it"
        raise ApiError(400, said, param=name)


def _seeds(request: ImageRequest) -> list[int]:
    if request.seed is not None:
        try:
            check_seeds(request.seed, request.pictures)
        except OptionError as error:
            raise ApiError(400, str(error), param="seed") from None
    first = secrets.randbelow(2**31) if request.seed is None else request.seed
    return list(range(first, first + request.pictures))


def _job(service: Service, key: ApiKey, request: ImageRequest, edit: Edit | None, job: str) -> Job:
    """What is drawn, with paths relative to the job's folder."""
    given = GivenFiles(service, key, job, () if edit is None else edit.images)
    width, height = _size(service, request)
    _check_marked(service, width, height)
    over = edit is not None and (edit.mask is not None or request.strength is not None)
    subjects = request.subjects
    if edit is not None and subjects is None:  # what is not drawn over is a reference
        subjects = [SubjectRequest(images=[place]) for place in range(1 if over else 0, len(edit.images))]
    if len(subjects or ()) > service.settings.bounds.subjects:
        raise ApiError(400, f"image must be at most {service.settings.bounds.subjects} references", param="image")
    drawn = Job(
        prompt=request.prompt,
        subjects=tuple(given.subject(number, subject) for number, subject in enumerate(subjects or ())),
        image=given.upload(edit.images[0]) if edit is not None and over else None,
        mask=given.upload(edit.mask) if edit is not None and edit.mask is not None else None,
        strength=request.strength,
        negative_prompt=request.negative_prompt,
        steps=request.steps,
        guidance=request.guidance,
        true_cfg=request.true_cfg,
        background_seed=request.background_seed,
        width=width,
        height=height,
    )
    backend_of(service.settings.model.model).check_job(drawn)
    ready = service.dispatcher.ready
    if ready is not None and ready.max_subjects == 0 and drawn.subjects:
        raise ApiError(400, "this server's model draws no subjects: it has no adapter", param="subjects")
    return drawn


def _check_marked(service: Service, width: int | None, height: int | None) -> None:
    """Raise ApiError for a picture that is too small for the watermark; without a size it has the model's own."""
    ready = service.dispatcher.ready
    if not service.settings.watermark or (width is None and ready is None):
        return
    sides = [side or (ready.native_size if ready else SMALLEST_MARKED) for side in (width, height)]
    if min(sides) < SMALLEST_MARKED:
        said = f"this server's watermark needs {SMALLEST_MARKED} pixels on each side, got {sides[0]}x{sides[1]}"
        raise ApiError(400, said, param="size")


def _size(service: Service, request: ImageRequest) -> tuple[int, int] | tuple[None, None]:
    if request.size is None or request.size == "auto":
        return None, None
    width, height = (int(side) for side in request.size.split("x"))
    most, ready = service.settings.bounds.pixels, service.dispatcher.ready
    if width * height > most:
        raise ApiError(400, f"size must be at most {most:,} pixels on this server, got {request.size}", param="size")
    if ready is not None and (width % ready.size_multiple or height % ready.size_multiple):
        said = f"size must be multiples of {ready.size_multiple}, got {request.size}"
        raise ApiError(400, said, param="size")
    return width, height


# --- results ---


def images_answer(service: Service, job: StoredJob, request: ImageRequest, base_url: str) -> dict[str, Any]:
    """OpenAI's answer for a job that is done.

    Raises:
        ApiError: it has failed, or was cancelled.
    """
    result = result_of(job)
    pictures = result["pictures"]
    form = request.output_format or "png"
    folder = service.data.job(job.id)
    return {
        "created": int(job.finished or job.created),
        "data": [
            _image_answer(folder, number, picture, request, f"{base_url}v1/jobs/{job.id}/pictures/{number}", form)
            for number, picture in enumerate(pictures, start=1)
        ],
        "output_format": form,
        "size": f"{pictures[0]['width']}x{pictures[0]['height']}",
        "job": job.id,
        "warnings": result["warnings"],
    }


def _image_answer(
    folder: Path, number: int, picture: dict[str, Any], request: ImageRequest, url: str, form: str
) -> dict[str, Any]:
    by_url = request.response_format == "url"
    shown: dict[str, Any] = {"seed": picture["seed"], "subjects": picture["subjects"]}
    if by_url:
        shown["url"] = f"{url}?format={form}"
    else:
        shown["b64_json"] = as_b64(encoded(folder / picture["file"], form, request.output_compression))
    if request.routing and picture["owners"] is not None:
        names = ("owners", "sheet")
        if by_url:
            shown["routing"] = {name: f"{url}/{name}" for name in names}
        else:
            shown["routing"] = {name: as_b64((folder / picture[name]).read_bytes()) for name in names}
    return shown


def encoded(path: Path, form: str, quality: int | None = None) -> bytes:
    """A kept picture in a format; as PNG it is as it was kept, with its record."""
    if form == "png":
        return path.read_bytes()
    kinds: dict[str, Literal["JPEG", "WEBP"]] = {"jpeg": "JPEG", "webp": "WEBP"}
    buffer = io.BytesIO()
    with Image.open(path) as image:
        image.convert("RGB").save(buffer, kinds[form], quality=95 if quality is None else quality)
    return buffer.getvalue()


def as_b64(data: bytes) -> str:
    """A file's content as text."""
    return base64.b64encode(data).decode()
