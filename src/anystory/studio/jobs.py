"""What is being drawn for a browser, as the page asks for it again and again."""

from __future__ import annotations

import base64
from typing import Any

from anystory.studio.session import Session
from anystory.studio.tabs import gallery, segment, story
from anystory.studio.texts import in_language
from anystory.studio.worker.worker import DrawingProcess, Ticket

__all__ = ["cancel", "start", "state"]


def start(worker: DrawingProcess, session: Session, payload: dict[str, Any], language: str) -> dict[str, Any]:
    """Put what the page asks for into the worker's line. Returns as `state`.

    Raises:
        ValueError: it cannot be drawn; the error names the field.
    """
    what = payload["what"]
    if what == "scene":
        task, on_event = gallery.prepared(session, payload)
        session.scene_job = worker.submit(task, on_event)
    elif what == "story":
        task = story.reroll_task(session, payload) if payload.get("reroll") else story.render_task(session, payload)
        session.story_job = worker.submit(task)
    elif what == "segment":
        session.segment_job = worker.submit(*segment.prepared(session, payload))
    else:
        raise ValueError(f"nothing called {what!r} is drawn here")
    return state(worker, session, language)


def cancel(worker: DrawingProcess, session: Session, payload: dict[str, Any], language: str) -> dict[str, Any]:
    """End what is drawn for one of the page's tabs."""
    ticket = _ticket(session, payload["what"])
    if ticket is not None:
        worker.cancel(ticket)
    return state(worker, session, language)


def state(worker: DrawingProcess, session: Session, language: str) -> dict[str, Any]:
    """Where the jobs of all tabs stand, as a page in a language says it."""
    told = {what: _told(worker, _ticket(session, what)) for what in ("scene", "story", "segment")}
    for one in told.values():
        if one is not None:
            one["message"] = session.without_places(in_language(one["message"], language))
    return told


def _ticket(session: Session, what: str) -> Ticket | None:
    return {"scene": session.scene_job, "story": session.story_job, "segment": session.segment_job}[what]


def _told(worker: DrawingProcess, ticket: Ticket | None) -> dict[str, Any] | None:
    if ticket is None:
        return None
    told: dict[str, Any] = {
        "state": ticket.state,
        "open": ticket.open,
        "version": ticket.version,
        "ahead": worker.ahead(ticket) if ticket.state == "waiting" else 0,
        "message": ticket.message,
        "field": ticket.option,
        "words": list(ticket.words),
        "kept": ticket.kept,
    }
    if ticket.progress is not None:
        names = ("picture", "pictures", "step", "steps", "seconds_left")
        told |= {name: getattr(ticket.progress, name) for name in names}
    if ticket.preview is not None and ticket.open:
        told["preview"] = f"data:image/png;base64,{base64.b64encode(ticket.preview).decode()}"
    return told
