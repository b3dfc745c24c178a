"""The server as an ASGI application."""

from __future__ import annotations

import math
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from anystory.serving.api import characters, health, images, jobs, segment, stories, uploads
from anystory.serving.api.schemas import ErrorAnswer
from anystory.serving.errors import ApiError
from anystory.serving.guards import CountRequests, LimitBody, OnlyThisMachine
from anystory.serving.service import Service
from anystory.version import __version__

__all__ = ["create_app"]

_ABOUT = """Pictures of your own characters: OpenAI's Images API with subjects, a library of characters, and stories.

Authorize with `Authorization: Bearer KEY`, unless the server answers this machine only."""


def create_app(service: Service) -> FastAPI:
    """The application of a server; it starts the server and ends it."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(service.start)
        yield
        await run_in_threadpool(service.close)

    app = FastAPI(title="AnyStory", description=_ABOUT, version=__version__, lifespan=lifespan, docs_url=None,
                  redoc_url=None)  # fmt: skip
    app.state.service = service
    for module in (images, segment, jobs, uploads, characters, stories, health):
        app.include_router(module.router)
    app.add_exception_handler(ApiError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected)
    app.add_middleware(LimitBody, most=service.settings.bounds.body)
    app.add_middleware(CountRequests, metrics=service.metrics)
    if not service.keys:
        app.add_middleware(OnlyThisMachine)
    _describe_more(app)
    return app


def _describe_more(app: FastAPI) -> None:
    """Add what the description refers to, and what FastAPI does not find by itself."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        schema = plain()
        for kind in (ErrorAnswer, segment.SegmentRequest):
            described = kind.model_json_schema(ref_template="#/components/schemas/{model}")
            described.pop("$defs", None)  # they are there already
            schema["components"]["schemas"][kind.__name__] = described
        return schema

    app.openapi = openapi  # type: ignore[method-assign]


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    headers = {} if error.retry_after is None else {"Retry-After": str(math.ceil(error.retry_after))}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(error.body(), status_code=error.status, headers=headers)


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"][1:])
        text = problem["msg"].removeprefix("Value error, ")
        found.append((where, f"{where}: {text}" if where else text))
    message = "; ".join(text for _, text in found[:10])
    return _refused(request, ApiError(400, message, param=found[0][0] or None))


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = _refused(request, ApiError(error.status_code, str(error.detail)))
    for name, value in (error.headers or {}).items():
        response.headers[name] = value
    return response


def _unexpected(request: Request, error: Exception) -> Response:
    traceback.print_exception(error)
    return _refused(request, ApiError(500, "something went wrong in the server; its log says what"))
