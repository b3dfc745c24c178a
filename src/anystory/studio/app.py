"""The studio as a web application: the page in each language, what it asks for, and the files that it shows.

Everything is answered on this machine: the page loads nothing from elsewhere, and no other site may ask.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.middleware.trustedhost import TrustedHostMiddleware

from anystory.studio import jobs
from anystory.studio.files import add_file_routes
from anystory.studio.session import Session, Sessions
from anystory.studio.settings import StudioSettings
from anystory.studio.shell import PageShell
from anystory.studio.tabs import cast, creator, gallery, models, segment, story
from anystory.studio.texts import LANGUAGES, answer_in_language, sentence, texts
from anystory.studio.worker.worker import DrawingProcess

__all__ = ["build_api", "build_app"]

MOST_UPLOAD = 64 * 2**20
"""Bytes of a file that is given."""

_ACTIONS: dict[str, Callable[[Session, dict[str, Any]], dict[str, Any]]] = {
    **cast.ACTIONS,
    **creator.ACTIONS,
    **gallery.ACTIONS,
    **story.ACTIONS,
    **segment.ACTIONS,
    **models.ACTIONS,
}


def build_app(settings: StudioSettings) -> FastAPI:
    """The studio: what `build_api` answers, and the page in each language."""
    from anystory.studio.page import add_page

    app = build_api(settings)
    for language in LANGUAGES:
        add_page(app, language)
    return app


def build_api(settings: StudioSettings) -> FastAPI:
    """What the page asks for, without the page itself. The process that draws ends with it."""
    worker = DrawingProcess()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(worker.close)

    app = FastAPI(lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)
    app.state.worker, app.state.sessions = worker, Sessions(settings)
    app.add_middleware(PageShell)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"))
    _add_api(app, worker)
    add_file_routes(app)
    return app


def _add_api(app: FastAPI, worker: DrawingProcess) -> None:
    @app.get("/")
    def home(request: Request) -> Response:
        return RedirectResponse(f"/{_language(request)}/")

    @app.get("/favicon.ico")
    def icon() -> Response:
        return RedirectResponse("/static/icon.svg")

    @app.get("/texts/{language}")
    def get_texts(language: str) -> Response:
        return JSONResponse(texts(language if language in LANGUAGES else LANGUAGES[0]))

    @app.get("/api/jobs")
    def get_jobs(request: Request) -> Response:
        return JSONResponse(jobs.state(worker, request.state.session, _language(request)))

    @app.post("/api/upload")
    async def upload(request: Request, name: str = "file") -> Response:
        data = bytearray()
        async for chunk in request.stream():
            data += chunk
            if len(data) > MOST_UPLOAD:
                message = texts(_language(request))["errors"]["too_large"].format(most=MOST_UPLOAD // 2**20)
                return JSONResponse({"field": "file", "message": message}, status_code=413)
        key = await run_in_threadpool(request.state.session.keep_upload, name, bytes(data))
        return JSONResponse({"upload": key, "name": Path(name).name})

    @app.post("/api/{action}")
    def act(request: Request, action: str, payload: dict[str, Any]) -> Response:
        session = request.state.session
        if action in ("draw", "cancel"):
            run = jobs.start if action == "draw" else jobs.cancel
            return _answered(request, lambda: run(worker, session, payload, _language(request)))
        if action not in _ACTIONS:
            return JSONResponse({"field": None, "message": f"no such action: {action}"}, status_code=404)
        return _answered(request, lambda: _ACTIONS[action](session, payload))


def _answered(request: Request, act: Callable[[], dict[str, Any]]) -> Response:
    """What an action gives, or the sentence of its error with the field that it belongs to."""
    language = _language(request)
    try:
        return JSONResponse(answer_in_language(act(), language))
    except Exception as error:
        message, field = sentence(error, language)
        if message:
            told = request.state.session.without_places(message)
            return JSONResponse({"field": field, "message": told}, status_code=422)
        traceback.print_exc(file=sys.stderr)
        return JSONResponse({"field": None, "message": texts(language)["errors"]["bug"]}, status_code=500)


def _language(request: Request) -> str:
    """The page's language, else the first that the browser asks for and the studio has."""
    given = request.headers.get("x-studio-language", "")
    wanted = [given, *(one.split(";")[0].strip()[:2] for one in request.headers.get("accept-language", "").split(","))]
    return next((one for one in wanted if one in LANGUAGES), LANGUAGES[0])
