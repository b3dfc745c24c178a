"""`/v1/jobs`: what becomes of a request: state, progress as server-sent events, results, cancelling."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from sse_starlette.sse import EventSourceResponse, ServerSentEvent

from anystory.engine.record.reading import load_record, record_text
from anystory.engine.record.segmentation import load_segmentation, segmentation_text
from anystory.engine.record.shared import shared_record
from anystory.serving.api.common import ERRORS, Caller, Served
from anystory.serving.api.drawing import encoded
from anystory.serving.api.schemas import JobAnswer
from anystory.serving.api.waiting import events
from anystory.serving.errors import ApiError
from anystory.serving.service import Service
from anystory.serving.store.job import StoredJob

__all__ = ["accepted_answer", "job_answer", "job_events", "router", "shown_segmentation"]

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], responses=ERRORS)

Form = Literal["png", "jpeg", "webp"]


@router.get("")
def list_jobs(service: Served, key: Caller, limit: Annotated[int, Query(ge=1, le=100)] = 20) -> list[JobAnswer]:
    """Your jobs, the newest first."""
    return [job_answer(service, job) for job in service.jobs.of_owner(key.name, limit)]


@router.get("/{job}")
def get_job(service: Served, key: Caller, job: str) -> JobAnswer:
    """A job as it is now."""
    return job_answer(service, service.find(job, key))


@router.delete("/{job}")
def cancel_job(service: Served, key: Caller, job: str) -> JobAnswer:
    """End a job: one that waits ends now, one that runs after the sampling step or look in progress."""
    return job_answer(service, service.dispatcher.cancel(service.find(job, key).id))


@router.get("/{job}/events", response_class=EventSourceResponse)
def job_progress(service: Served, key: Caller, job: str, request: Request) -> EventSourceResponse:
    """Progress as server-sent events: `job` (its state), `step`, `preview`, `picture`; the stream ends with the job."""
    return EventSourceResponse(job_events(service, service.find(job, key).id, request))


@router.get("/{job}/pictures/{number}", response_class=FileResponse)
def get_picture(service: Served, key: Caller, job: str, number: int, format: Form = "png") -> Response:
    """A picture of a job that is done. As PNG it holds its record."""
    path = _file(service, service.find(job, key), number, "file")
    if format == "png":
        return FileResponse(path, media_type="image/png")
    return Response(encoded(path, format), media_type=f"image/{format}")


@router.get("/{job}/pictures/{number}/{what}", response_class=FileResponse)
def get_routing(
    service: Served, key: Caller, job: str, number: int, what: Literal["owners", "sheet", "record"]
) -> Response:
    """Of a picture: who owns which pixel (`owners`), the routing maps as a page (`sheet`), its record as JSON."""
    path = _file(service, service.find(job, key), number, what)
    if what == "record":
        return Response(record_text(shared_record(load_record(path))), media_type="application/json")
    return FileResponse(path, media_type="image/png")


@router.get("/{job}/masks/{number}", response_class=FileResponse)
def get_mask(service: Served, key: Caller, job: str, number: int) -> FileResponse:
    """Of a segmentation: a PNG, white where a subject is; from 1."""
    found = service.find(job, key, "segmentation")
    return _png(service, found, _of_subject(found, number)["mask"])


@router.get("/{job}/layers/{number}", response_class=FileResponse)
def get_layer(service: Served, key: Caller, job: str, number: int) -> FileResponse:
    """Of a segmentation: a PNG of a subject's pixels, from 1, transparent elsewhere; 0 is the background's."""
    found = service.find(job, key, "segmentation")
    name = _segmentation(found)["background"] if number == 0 else _of_subject(found, number)["layer"]
    return _png(service, found, name)


@router.get("/{job}/overlay", response_class=FileResponse)
def get_overlay(service: Served, key: Caller, job: str) -> FileResponse:
    """Of a segmentation: the picture with the subjects tinted."""
    found = service.find(job, key, "segmentation")
    if (name := _segmentation(found)["overlay"]) is None:
        raise ApiError(404, "there is no overlay: it was not asked for, send `overlay`", code="not_found")
    return _png(service, found, name)


@router.get("/{job}/record")
def get_segmentation_record(service: Served, key: Caller, job: str) -> Response:
    """Of a segmentation: its record as JSON, without folders of the server."""
    found = service.find(job, key, "segmentation")
    record = load_segmentation(service.data.job(found.id) / _segmentation(found)["record"])
    return Response(segmentation_text(shared_record(record)), media_type="application/json")


def _segmentation(job: StoredJob) -> dict[str, Any]:
    if job.result is None:
        raise ApiError(404, f"there are no masks: the job is {job.state}", code="not_found")
    return job.result


def _of_subject(job: StoredJob, number: int) -> dict[str, Any]:
    subjects = _segmentation(job)["subjects"]
    if not 1 <= number <= len(subjects):
        raise ApiError(404, f"there is no subject {number}: the job has {len(subjects)}", code="not_found")
    return subjects[number - 1]


def _png(service: Service, job: StoredJob, name: str) -> FileResponse:
    return FileResponse(service.data.job(job.id) / name, media_type="image/png")


def _file(service: Service, job: StoredJob, number: int, what: str) -> Path:
    """A file of a picture.

    Raises:
        ApiError: there is none.
    """
    pictures = (job.result or {}).get("pictures", ())
    if not 1 <= number <= len(pictures):
        raise ApiError(404, f"there is no picture {number}: the job is {job.state} and has {len(pictures)}")
    if (name := pictures[number - 1].get(what)) is None:
        why = "it has no subjects" if what == "owners" else "it was not asked for: send `routing`"
        raise ApiError(404, f"picture {number} has no {what}: {why}", code="not_found")
    return service.data.job(job.id) / name


async def job_events(service: Service, job: str, request: Request) -> AsyncIterator[ServerSentEvent]:
    """The events of a job, as they are sent."""
    async for event in events(service, job, request):
        yield ServerSentEvent(json.dumps(event.data), event=event.kind)


def accepted_answer(service: Service, job: StoredJob) -> Response:
    """The answer to a request that does not wait for its job."""
    shown = job_answer(service, job).model_dump(mode="json")
    return JSONResponse(shown, status_code=202, headers={"Location": f"/v1/jobs/{job.id}"})


def job_answer(service: Service, job: StoredJob) -> JobAnswer:
    """A job as it is shown."""
    return JobAnswer(
        id=job.id,
        kind=job.kind,
        state=job.state,  # type: ignore[arg-type]
        created=job.created,
        started=job.started,
        finished=job.finished,
        expires=None if job.finished is None else job.finished + service.settings.keep_hours * 3600,
        progress=service.feeds.last_step(job.id) if job.state == "running" else None,
        pictures=_shown_pictures(job),
        segmentation=shown_segmentation(job),
        warnings=(job.result or {}).get("warnings", []),
        error=job.error,
    )


def _shown_pictures(job: StoredJob) -> list[dict[str, Any]]:
    shown = []
    for number, picture in enumerate((job.result or {}).get("pictures", ()), start=1):
        url = f"/v1/jobs/{job.id}/pictures/{number}"
        entry = {name: picture[name] for name in ("seed", "subjects", "width", "height")} | {"url": url}
        entry |= {name: f"{url}/{name}" for name in ("owners", "sheet", "record") if picture[name] is not None}
        shown.append(entry)
    return shown


def shown_segmentation(job: StoredJob) -> dict[str, Any] | None:
    """Of a segmentation that is done: what was found, and where its files can be fetched."""
    if job.kind != "segmentation" or job.result is None:
        return None
    url, result = f"/v1/jobs/{job.id}", job.result
    subjects = [
        {name: one[name] for name in ("name", "present", "confidence", "share")}
        | {"mask": f"{url}/masks/{number}", "layer": f"{url}/layers/{number}"}
        for number, one in enumerate(result["subjects"], start=1)
    ]
    shown = {"width": result["width"], "height": result["height"], "subjects": subjects}
    overlay = {} if result["overlay"] is None else {"overlay": f"{url}/overlay"}
    return shown | {"background": f"{url}/layers/0", "record": f"{url}/record"} | overlay
