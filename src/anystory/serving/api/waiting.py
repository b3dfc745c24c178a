"""Waiting for a job: until it ends, or until the client is gone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from anystory.serving.errors import ApiError
from anystory.serving.feeds import FeedEvent
from anystory.serving.service import Service
from anystory.serving.store.job import StoredJob

__all__ = ["events", "result_of", "wait_for"]

_LOOK = 0.5
"""Seconds between two looks whether the client is there."""


async def events(service: Service, job: str, request: Request) -> AsyncIterator[FeedEvent]:
    """What happens to a job: its state now, then every event until it has ended, or the client is gone."""
    with service.feeds.listening(job) as listener:
        found = await run_in_threadpool(service.jobs.get, job)
        yield FeedEvent("job", {"state": found.state})
        while not found.ended and not await request.is_disconnected():
            event = await listener.next(_LOOK)
            if event is not None and event.kind != "job":
                yield event
            if event is None and not service.draining:
                continue
            before, found = found.state, await run_in_threadpool(service.jobs.get, job)
            if found.state != before:
                yield FeedEvent("job", {"state": found.state})
            if service.draining and found.state == "queued":
                return


async def wait_for(service: Service, job: StoredJob, request: Request, *, keep: bool) -> StoredJob:
    """Wait until a job has ended.

    Args:
        service: The server.
        job: The job.
        request: The client's: when it is gone, the job is cancelled.
        keep: Whether it is not: the client has an idempotency key, with which it can come back.

    Raises:
        ApiError: the server restarts, and the job has not begun. Unless it is kept it is cancelled, since the client
            will send it again.
    """
    async for _ in events(service, job.id, request):
        pass
    found = await run_in_threadpool(service.jobs.get, job.id)
    if found.ended:
        return found
    if not keep:
        found = await run_in_threadpool(service.dispatcher.cancel, job.id)
    said = "the server restarts: try again in a moment"
    raise ApiError(503, said, code="restarting", retry_after=30, more={"job": job.id})


def result_of(job: StoredJob) -> dict[str, Any]:
    """What a job that has ended has brought.

    Raises:
        ApiError: it has failed, or was cancelled.
    """
    if job.state == "failed":
        error = job.error or {}
        status = 500 if error.get("type") == "server_error" else 400
        code = "content_policy_violation" if error.get("type") == "content_policy" else "job_failed"  # OpenAI's word
        raise ApiError(status, error.get("message", "the job has failed"), code=code, more={"job": job.id})
    if job.state != "done" or job.result is None:
        raise ApiError(409, "the job was cancelled", code="job_cancelled", more={"job": job.id})
    return job.result
