"""`/v1/images/generations` and `/v1/images/edits`, in the shape of OpenAI's Images API."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from sse_starlette.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData

from anystory.serving.api.common import ERRORS, Caller, Prefer, RepeatKey, Served, digest_of
from anystory.serving.api.drawing import Edit, images_answer, new_pictures
from anystory.serving.api.forms import MOST_IMAGES, digest_of_form, form_files, read_form
from anystory.serving.api.jobs import accepted_answer
from anystory.serving.api.schemas import ImageRequest, ImagesAnswer
from anystory.serving.api.uploads import add_mask, add_upload
from anystory.serving.api.waiting import events, wait_for
from anystory.serving.errors import ApiError
from anystory.serving.keys import ApiKey
from anystory.serving.service import Service
from anystory.serving.store.job import StoredJob

__all__ = ["router"]

router = APIRouter(prefix="/v1/images", tags=["images"], responses=ERRORS)


_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["prompt", "image"],
                    "properties": {
                        "prompt": {"type": "string"},
                        "image": {"type": "array", "items": {"type": "string", "format": "binary"}},
                        "mask": {"type": "string", "format": "binary"},
                        "subjects": {"type": "string", "description": "As JSON, as in a generation."},
                        "n": {"type": "integer", "minimum": 1},
                        "size": {"type": "string"},
                        "seed": {"type": "integer", "minimum": 0},
                        "steps": {"type": "integer", "minimum": 1},
                        "strength": {"type": "number", "minimum": 0, "maximum": 1},
                        "routing": {"type": "boolean"},
                    },
                }
            }
        },
    }
}


@router.post("/generations", response_model=ImagesAnswer)
async def generate_images(
    service: Served,
    key: Caller,
    body: ImageRequest,
    request: Request,
    idempotency_key: RepeatKey = None,
    prefer: Prefer = None,
) -> Response:
    """Draw pictures from a prompt, with your subjects in them."""
    digest = digest_of("generations", body.model_dump_json())
    job = await run_in_threadpool(_accept, service, key, body, None, idempotency_key, digest)
    return await _answer(service, job, body, request, prefer, keep=idempotency_key is not None)


@router.post("/edits", response_model=ImagesAnswer, openapi_extra=_FORM)
async def edit_images(
    service: Served, key: Caller, request: Request, idempotency_key: RepeatKey = None, prefer: Prefer = None
) -> Response:
    """Draw with pictures: with a `mask` or a `strength` the first `image` is drawn over, all others are references.

    A mask is transparent where the picture is drawn anew, or, without transparency, white there. Without both, all
    images are references, one subject each, unless `subjects` says which belong together.
    """
    form = await request.form(max_files=MOST_IMAGES + 1, max_fields=64, max_part_size=2**20)
    try:
        body = read_form(form, ImageRequest, {"subjects"})
        job = await run_in_threadpool(_accept_edit, service, key, body, form, idempotency_key)
    finally:
        await form.close()
    return await _answer(service, job, body, request, prefer, keep=idempotency_key is not None)


def _accept_edit(
    service: Service, key: ApiKey, body: ImageRequest, form: FormData, repeat_key: str | None
) -> StoredJob:
    sent = form_files(form, ("image", "image[]", "mask"))
    images = [value for name, value in sent if name in ("image", "image[]")]
    masks = [value for name, value in sent if name == "mask"]
    if not images or len(masks) > 1:
        raise ApiError(400, "an edit has at least one image and at most one mask", param="image")
    digest = digest_of_form("edits", body, sent)
    if known := service.repeated(key, repeat_key, digest):
        return known
    edit = Edit(
        images=tuple(add_upload(service, key, value, "image") for value in images),
        mask=add_mask(service, key, masks[0], "mask") if masks else None,
    )
    return _accept(service, key, body, edit, repeat_key, digest)


def _accept(
    service: Service, key: ApiKey, body: ImageRequest, edit: Edit | None, repeat_key: str | None, digest: str
) -> StoredJob:
    return service.accept(new_pictures(service, key, body, edit, repeat_key=repeat_key, digest=digest), key)


async def _answer(
    service: Service, job: StoredJob, body: ImageRequest, request: Request, prefer: str | None, *, keep: bool
) -> Response:
    if "respond-async" in (prefer or ""):
        return await run_in_threadpool(accepted_answer, service, job)
    if body.stream:
        return EventSourceResponse(_stream(service, job, body, request, keep=keep))
    ended = await wait_for(service, job, request, keep=keep)
    shown = await run_in_threadpool(images_answer, service, ended, body, str(request.base_url))
    return JSONResponse(shown)


async def _stream(
    service: Service, job: StoredJob, body: ImageRequest, request: Request, *, keep: bool
) -> AsyncIterator[ServerSentEvent]:
    """OpenAI's stream: previews while the first picture is drawn, then the pictures; or an error."""
    shown, ended = 0, None
    try:
        async for event in events(service, job.id, request):
            if event.kind == "preview" and shown < (body.partial_images or 0) and event.data["picture"] == 1:
                data = {"b64_json": event.data["b64_json"], "partial_image_index": shown}
                yield _event("image_generation.partial_image", data)
                shown += 1
        ended = await wait_for(service, job, request, keep=keep)
        answer = await run_in_threadpool(images_answer, service, ended, body, str(request.base_url))
    except ApiError as error:
        yield ServerSentEvent(json.dumps({"type": "error"} | error.body()), event="error")
        return
    except BaseException:
        if ended is None and not keep:  # the client is gone, and this coroutine is being ended wherever it waits
            service.dispatcher.cancel(job.id)
        raise
    for picture in answer["data"]:
        more = {"created_at": answer["created"], "size": answer["size"], "job": answer["job"]}
        yield _event("image_generation.completed", picture | more | {"output_format": answer["output_format"]})


def _event(kind: str, data: dict[str, Any]) -> ServerSentEvent:
    return ServerSentEvent(json.dumps({"type": kind} | data), event=kind)
