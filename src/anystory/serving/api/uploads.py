"""`/v1/uploads`: pictures sent ahead, to be named in requests."""

from __future__ import annotations

import io
from typing import Annotated

from fastapi import APIRouter, File, Response, UploadFile
from PIL import Image
from starlette.datastructures import UploadFile as SentFile

from anystory.serving.api.common import ERRORS, Caller, Served
from anystory.serving.api.given import find_upload
from anystory.serving.api.schemas import UploadAnswer
from anystory.serving.errors import ApiError
from anystory.serving.keys import ApiKey
from anystory.serving.service import Service
from anystory.serving.store.uploads import Upload

__all__ = ["add_mask", "add_upload", "router"]

router = APIRouter(prefix="/v1/uploads", tags=["uploads"], responses=ERRORS)


@router.post("", status_code=201)
def send_picture(service: Served, key: Caller, file: Annotated[UploadFile, File()]) -> UploadAnswer:
    """Send a picture: PNG, JPEG, WebP, GIF or AVIF, whatever its name says. It is kept for a while."""
    return _answer(service, add_upload(service, key, file, "file"))


@router.get("/{upload}")
def get_upload(service: Served, key: Caller, upload: str) -> UploadAnswer:
    """What is known of a picture that you sent."""
    return _answer(service, find_upload(service, key, upload, "upload"))


@router.delete("/{upload}", status_code=204)
def delete_upload(service: Served, key: Caller, upload: str) -> Response:
    """Remove a picture that you sent. Jobs that were accepted with it keep it."""
    service.uploads.drop(find_upload(service, key, upload, "upload"))
    return Response(status_code=204)


def add_upload(service: Service, key: ApiKey, file: SentFile, param: str) -> Upload:
    """Keep a picture of a request.

    Raises:
        ApiError: no picture that is taken, or the key holds too much.
    """
    return _add(service, key, file.file.read(), param)


def add_mask(service: Service, key: ApiKey, file: SentFile, param: str) -> Upload:
    """Keep a mask in OpenAI's form, transparent where the picture is drawn anew, or in ours, white there.

    Raises:
        ApiError: see `add_upload`.
    """
    data = file.file.read()
    sent = _add(service, key, data, param)
    with Image.open(io.BytesIO(data)) as image:
        if "A" not in image.getbands() and "transparency" not in image.info:
            return sent
        alpha = image.convert("RGBA").getchannel("A")
    buffer = io.BytesIO()
    alpha.point(lambda value: 255 - value).save(buffer, "PNG")
    service.uploads.drop(sent)
    return _add(service, key, buffer.getvalue(), param)


def _add(service: Service, key: ApiKey, data: bytes, param: str) -> Upload:
    most = service.settings.bounds.storage
    if service.uploads.held_by(key.name) + len(data) > most:
        said = f"the pictures that you sent take more than {most:,} bytes: delete some, or wait until they expire"
        raise ApiError(429, said, param=param, code="storage_full", retry_after=3600)
    try:
        return service.uploads.add(key.name, data, param)
    except ValueError as error:
        raise ApiError(400, str(error), param=param, code="invalid_image") from None


def _answer(service: Service, upload: Upload) -> UploadAnswer:
    return UploadAnswer(
        id=upload.id,
        width=upload.width,
        height=upload.height,
        bytes=upload.bytes,
        created=upload.created,
        expires=upload.created + service.settings.keep_hours * 3600,
    )
