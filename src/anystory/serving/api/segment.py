"""`/v1/segment`: where subjects are in a picture that exists already."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, field_validator
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from anystory.engine.errors import OptionError
from anystory.engine.limits import MOST_SEED
from anystory.engine.segmenting import check_router
from anystory.segment.levels import DEFAULT_LEVELS, check_levels
from anystory.serving.api.common import ERRORS, Caller, Prefer, RepeatKey, Served
from anystory.serving.api.drawing import as_b64, check_prompt
from anystory.serving.api.forms import MOST_IMAGES, digest_of_form, form_files, read_form, read_request
from anystory.serving.api.given import GivenFiles, find_upload
from anystory.serving.api.jobs import accepted_answer, shown_segmentation
from anystory.serving.api.schemas import Part, SubjectRequest
from anystory.serving.api.uploads import add_upload
from anystory.serving.api.waiting import result_of, wait_for
from anystory.serving.errors import ApiError
from anystory.serving.keys import ApiKey
from anystory.serving.service import Service
from anystory.serving.store.job import NewJob, StoredJob, new_job_id
from anystory.serving.store.uploads import Upload
from anystory.serving.work.picture_work import subjects_as_work

__all__ = ["SegmentRequest", "router"]

router = APIRouter(prefix="/v1/segment", tags=["segment"], responses=ERRORS)


class SegmentRequest(Part):
    """A picture, and whom to look for in it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "image": "upl_0123456789abcdef01234567",
                    "subjects": [{"character": "@mara"}, {"uploads": ["upl_89abcdef0123456789abcdef"], "name": "fox"}],
                    "overlay": True,
                }
            ]
        }
    )

    image: Annotated[str, Field(max_length=64)] | None = None
    """The picture: the id of an upload; in a form a file of this name."""
    subjects: list[SubjectRequest] | None = None
    """Whom to look for. A `region` says where. By default, in a form, each `reference` is a subject."""
    prompt: Annotated[str, Field(max_length=100_000)] = ""
    """What the picture shows, if you know."""
    seed: Annotated[int, Field(ge=0, le=MOST_SEED)] = 0
    """Of the noise: the same request finds the same masks."""
    levels: Annotated[list[float], Field(min_length=1, max_length=16)] | None = None
    """Noise levels at which to look, rising, between 0 (the picture) and 1 (noise); by default the model's."""
    draws: Annotated[int, Field(ge=1, le=16)] | None = None
    """How often to draw noise at each level; by default the model's number."""
    layers: bool = False
    """Whether to return each subject's pixels on a transparent background, and the background's, too."""
    overlay: bool = False
    """Whether to return the picture with the subjects tinted, too."""
    response_format: Literal["b64_json", "url"] | None = None
    """The masks themselves (by default), or where they can be fetched with the same API key."""

    @field_validator("levels")
    @classmethod
    def _rising(cls, levels: list[float] | None) -> list[float] | None:
        if levels is not None:
            check_levels(levels)
        return levels


class FoundAnswer(BaseModel):
    """A subject that was looked for."""

    name: str | None
    present: bool
    """Whether it is in the picture; if not, its mask is black."""
    confidence: float
    """How sure that is, in [0, 1]."""
    share: float
    """Of the picture's pixels, in [0, 1]."""
    b64_json: str | None = None
    """The mask, a PNG of the picture's size: white where the subject is."""
    url: str | None = None
    """Where the mask can be fetched."""
    layer: str | None = None
    """The subject's pixels, a PNG or where it can be fetched."""


class SegmentAnswer(BaseModel):
    """Masks, in the order of the subjects. No pixel is in two of them."""

    created: int
    """Seconds since 1970."""
    data: list[FoundAnswer]
    width: int
    height: int
    background: str | None = None
    """Everything that is nobody's, as a layer."""
    overlay: str | None = None
    """The picture with the subjects tinted, a PNG or where it can be fetched."""
    job: str
    """Id of the job, whose results stay for a while."""
    warnings: list[str]


_FILES = ("image", "reference", "reference[]")
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/SegmentRequest"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {
                        "image": {"type": "string", "format": "binary"},
                        "reference": {"type": "array", "items": {"type": "string", "format": "binary"}},
                        "subjects": {"type": "string", "description": "As JSON, as in a request without files."},
                        "prompt": {"type": "string"},
                        "seed": {"type": "integer", "minimum": 0},
                        "levels": {"type": "string", "description": "As JSON: [0.1, 0.3]."},
                        "draws": {"type": "integer", "minimum": 1},
                        "layers": {"type": "boolean"},
                        "overlay": {"type": "boolean"},
                        "response_format": {"type": "string", "enum": ["b64_json", "url"]},
                    },
                }
            },
        },
    }
}


@router.post("", response_model=SegmentAnswer, openapi_extra=_BODY)
async def find_subjects(
    service: Served, key: Caller, request: Request, idempotency_key: RepeatKey = None, prefer: Prefer = None
) -> Response:
    """Find your subjects in a picture: a mask for each, and how sure it is that the subject is there.

    Send JSON with ids of uploads and characters, or a form with the picture as `image` and `reference` files.
    """
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        form = await request.form(max_files=MOST_IMAGES + 1, max_fields=64, max_part_size=2**20)
        try:
            body = read_form(form, SegmentRequest, {"subjects", "levels"})
            sent = form_files(form, _FILES)
            job = await run_in_threadpool(_accept, service, key, body, sent, idempotency_key)
        finally:
            await form.close()
    else:
        body = read_request(_from_json(await request.body()), SegmentRequest)
        job = await run_in_threadpool(_accept, service, key, body, [], idempotency_key)
    if "respond-async" in (prefer or ""):
        return await run_in_threadpool(accepted_answer, service, job)
    ended = await wait_for(service, job, request, keep=idempotency_key is not None)
    return JSONResponse(await run_in_threadpool(_answer, service, ended, body, str(request.base_url)))


def _from_json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise ApiError(400, "the body must be JSON, or a form with files (multipart/form-data)") from None


def _accept(
    service: Service, key: ApiKey, body: SegmentRequest, sent: list[tuple[str, UploadFile]], repeat_key: str | None
) -> StoredJob:
    digest = digest_of_form("segment", body, sent)
    if known := service.repeated(key, repeat_key, digest):
        return known
    _check_bounds(service, body)
    references = [value for name, value in sent if name != "image"]
    subjects = body.subjects
    if subjects is None:
        subjects = [SubjectRequest(images=[place]) for place in range(len(references))]
    most = service.settings.bounds.subjects
    if not 1 <= len(subjects) <= most:
        said = f"name 1 to {most} subjects to look for, got {len(subjects)}: `subjects`, or files named `reference`"
        raise ApiError(400, said, param="subjects")
    image = _picture(service, key, body, [value for name, value in sent if name == "image"])
    added = [add_upload(service, key, value, "reference") for value in references]
    job = new_job_id()
    try:
        work = _work(GivenFiles(service, key, job, added), body, image, subjects)
    except BaseException:
        service.data.drop_job(job)
        raise
    new = NewJob(id=job, owner=key.name, kind="segmentation", work=work, repeat_key=repeat_key, digest=digest)
    return service.accept(new, key)


def _picture(service: Service, key: ApiKey, body: SegmentRequest, files: Sequence[UploadFile]) -> Upload:
    """The picture to look at: a file of the form, or sent before.

    Raises:
        ApiError: not one of them, no picture, or one that is too large.
    """
    if len(files) + (body.image is not None) != 1:
        raise ApiError(400, "send one `image`: the id of an upload, or a file in a form", param="image")
    image = (
        add_upload(service, key, files[0], "image")
        if body.image is None
        else find_upload(service, key, body.image, "image")
    )
    if image.width * image.height > (most := service.settings.bounds.pixels):
        size = f"{image.width}×{image.height}"
        raise ApiError(400, f"image must be at most {most:,} pixels here, got {size}: shrink it", param="image")
    return image


def _work(given: GivenFiles, body: SegmentRequest, image: Upload, subjects: Sequence[SubjectRequest]) -> dict[str, Any]:
    """What the worker reads; the files go into the job's folder.

    Raises:
        ApiError: something that a subject names is not there.
    """
    work = {name: getattr(body, name) for name in ("prompt", "seed", "levels", "draws", "overlay")}
    files = [given.subject(number, subject) for number, subject in enumerate(subjects)]
    return work | {"image": given.upload(image).as_posix(), "subjects": subjects_as_work(files)}


def _check_bounds(service: Service, body: SegmentRequest) -> None:
    bounds = service.settings.bounds
    check_prompt(service, "prompt", body.prompt)
    looks = len(body.levels or DEFAULT_LEVELS) * (body.draws or 1)
    if looks > bounds.steps:
        raise ApiError(400, f"levels × draws must be at most {bounds.steps} here, got {looks}", param="draws")
    try:
        check_router(service.settings.model)
    except OptionError as error:
        raise ApiError(400, f"this server's model cannot: {error.problem}", param="model") from None
    ready = service.dispatcher.ready
    if ready is not None and ready.max_subjects == 0:
        raise ApiError(400, "this server's model finds no subjects: it has no adapter", param="subjects")


def _answer(service: Service, job: StoredJob, body: SegmentRequest, base_url: str) -> dict[str, Any]:
    """The answer for a job that is done.

    Raises:
        ApiError: it has failed, or was cancelled.
    """
    files, shown = result_of(job), shown_segmentation(job)
    assert shown is not None, "a segmentation that is done"
    by_url = body.response_format == "url"

    def sent(file: str, url: str) -> str:
        return base_url.rstrip("/") + url if by_url else as_b64((service.data.job(job.id) / file).read_bytes())

    data = []
    for kept, one in zip(files["subjects"], shown["subjects"], strict=True):
        entry = {name: one[name] for name in ("name", "present", "confidence", "share")}
        entry["url" if by_url else "b64_json"] = sent(kept["mask"], one["mask"])
        if body.layers:
            entry["layer"] = sent(kept["layer"], one["layer"])
        data.append(entry)
    answer = {"created": int(job.finished or job.created), "data": data, "width": files["width"]}
    answer |= {"height": files["height"], "job": job.id, "warnings": files["warnings"]}
    if body.layers:
        answer["background"] = sent(files["background"], shown["background"])
    if body.overlay:
        answer["overlay"] = sent(files["overlay"], shown["overlay"])
    return answer
