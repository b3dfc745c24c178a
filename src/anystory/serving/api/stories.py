"""`/v1/stories`: a story is sent, its panels are drawn one by one, and the book is fetched in any format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field
from sse_starlette.sse import EventSourceResponse

from anystory.serving.api.common import ERRORS, Caller, RepeatKey, Served, digest_of
from anystory.serving.api.given import GivenFiles
from anystory.serving.api.jobs import job_answer, job_events
from anystory.serving.api.schemas import JobAnswer, Part
from anystory.serving.api.story_files import write_story_file
from anystory.serving.errors import ApiError
from anystory.serving.exports import EXPORTS, ExportFormat, export_file
from anystory.serving.service import Service
from anystory.serving.store.job import NewJob, StoredJob, new_job_id
from anystory.serving.work.stories import BOOK, STORY
from anystory.story.book_folder import Book, read_book

__all__ = ["router"]

router = APIRouter(prefix="/v1/stories", tags=["stories"], responses=ERRORS)


class StoryRequest(Part):
    """A story to be drawn."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "story": {
                        "title": "The balloon",
                        "cast": {"mara": {"storyworld": "a striped blue fox", "looks": "a striped blue fox"}},
                        "panels": [{"prompt": "Mara waving on a beach", "dialogue": [{"mara": "Hello!"}]}],
                    }
                }
            ]
        }
    )

    story: dict[str, Any]
    """A story file (`anystory story schema`), with ids of uploads for `photos` and `picture`, and your characters for
    `library`."""
    best_of: Annotated[int, Field(ge=1, le=4)] = 1
    """Candidates of each panel, of which the book shows the best."""


class StoryAnswer(BaseModel):
    """A story, as it is now."""

    id: str
    object: Literal["story"] = "story"
    title: str
    job: JobAnswer
    panels: list[dict[str, Any]]
    """Each with its number, whether it is drawn, its prompt, and where its picture can be fetched."""
    exports: dict[str, str]
    """{format: where the book can be fetched}, when it is done."""


@router.post("", status_code=202)
def send_story(service: Served, key: Caller, body: StoryRequest, idempotency_key: RepeatKey = None) -> StoryAnswer:
    """Draw a story. The answer comes at once; `/events` tells of the progress."""
    digest = digest_of("story", body.model_dump_json())
    if known := service.repeated(key, idempotency_key, digest):
        return _answer(service, known)
    job = new_job_id()
    try:
        story = write_story_file(service.data.job(job) / STORY, body.story, GivenFiles(service, key, job))
    except BaseException:
        service.data.drop_job(job)
        raise
    new = NewJob(
        id=job,
        owner=key.name,
        kind="story",
        work={"title": story.title, "panels": len(story.panels), "best_of": body.best_of},
        cost=1,  # of a turn: when others wait it stops after a panel
        repeat_key=idempotency_key,
        digest=digest,
    )
    return _answer(service, service.accept(new, key))


@router.get("")
def list_stories(service: Served, key: Caller, limit: Annotated[int, Query(ge=1, le=100)] = 20) -> list[StoryAnswer]:
    """Your stories, the newest first."""
    return [_answer(service, job) for job in service.jobs.of_owner(key.name, limit, "story")]


@router.get("/{story}")
def get_story(service: Served, key: Caller, story: str) -> StoryAnswer:
    """A story as it is now, with the panels that are drawn."""
    return _answer(service, service.find(story, key, "story"))


@router.delete("/{story}")
def cancel_story(service: Served, key: Caller, story: str) -> StoryAnswer:
    """Stop drawing a story. The panels that are drawn stay for a while."""
    return _answer(service, service.dispatcher.cancel(service.find(story, key, "story").id))


@router.get("/{story}/events", response_class=EventSourceResponse)
def story_progress(service: Served, key: Caller, story: str, request: Request) -> EventSourceResponse:
    """Progress as server-sent events, as for a job."""
    return EventSourceResponse(job_events(service, service.find(story, key, "story").id, request))


@router.get("/{story}/panels/{number}", response_class=FileResponse)
def get_panel(service: Served, key: Caller, story: str, number: int) -> FileResponse:
    """The picture of a panel, from 1."""
    book = _book(service, service.find(story, key, "story"))
    panels = () if book is None else book.panels
    chosen = panels[number - 1].chosen if 1 <= number <= len(panels) else None
    if chosen is None:
        raise ApiError(404, f"panel {number} is not drawn: the story has {len(panels)} panels", code="not_found")
    return FileResponse(chosen.picture, media_type="image/png")


@router.get("/{story}/export/{form}", response_class=FileResponse)
def export_story(service: Served, key: Caller, story: str, form: ExportFormat) -> FileResponse:
    """The book, lettered and laid out: pdf, cbz, epub, html, mp4, or a zip of png pages or layers."""
    job = service.find(story, key, "story")
    if job.state != "done":
        raise ApiError(409, f"the story is {job.state}: wait until it is done", code="not_done")
    folder = service.data.job(job.id)
    try:
        path = export_file(folder / BOOK, form, folder / "export")
    except ValueError as error:
        raise ApiError(400, str(error).replace(f"{folder}/", "")) from None
    name = f"story.{form if EXPORTS[form] != 'application/zip' else 'zip'}"
    return FileResponse(path, media_type=EXPORTS[form], filename=name)


def _book(service: Service, job: StoredJob) -> Book | None:
    folder: Path = service.data.job(job.id) / BOOK
    return read_book(folder) if (folder / "book.json").is_file() else None


def _answer(service: Service, job: StoredJob) -> StoryAnswer:
    book = _book(service, job)
    panels = [
        {
            "number": panel.number,
            "drawn": panel.chosen is not None,
            "prompt": panel.panel.prompt,
            "url": None if panel.chosen is None else f"/v1/stories/{job.id}/panels/{panel.number}",
        }
        for panel in (() if book is None else book.panels)
    ]
    waiting = [{"number": number, "drawn": False} for number in range(1, job.work["panels"] + 1)]
    return StoryAnswer(
        id=job.id,
        title=job.work["title"],
        job=job_answer(service, job),
        panels=panels or waiting,
        exports={form: f"/v1/stories/{job.id}/export/{form}" for form in EXPORTS} if job.state == "done" else {},
    )
