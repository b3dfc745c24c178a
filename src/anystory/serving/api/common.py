"""What all endpoints share: whose request it is, and the server behind it."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from fastapi import Depends, Header, Request

from anystory.serving.errors import ApiError
from anystory.serving.keys import ApiKey
from anystory.serving.service import Service

__all__ = ["ERRORS", "Caller", "Prefer", "RepeatKey", "Served", "digest_of", "service_of"]

_CODES = {400: "not as expected", 401: "no such API key", 404: "not here", 409: "does not fit what is here"}
_CODES |= {413: "too large", 429: "later, please", 503: "the server restarts"}
ERRORS: dict[int | str, dict[str, Any]] = {
    code: {
        "description": text,
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/ErrorAnswer"},
                "example": {"error": {"message": text, "type": "invalid_request_error", "param": None, "code": None}},
            }
        },
    }
    for code, text in _CODES.items()
}
"""Answers that every endpoint may give."""


def service_of(request: Request) -> Service:
    """The server behind a request."""
    return request.app.state.service


Served = Annotated[Service, Depends(service_of)]


def _caller(
    request: Request,
    service: Served,
    authorization: Annotated[str | None, Header(description="Bearer and the API key.")] = None,
) -> ApiKey:
    kind, _, token = (authorization or "").partition(" ")
    key = service.keys.find(token.strip() if kind.lower() == "bearer" else None)
    if key is None:
        said = "this server needs an API key: send the header `Authorization: Bearer KEY`"
        raise ApiError(401, said if not authorization else "there is no such API key", code="invalid_api_key")
    if (wait := service.pace.wait(key)) > 0:
        said = f"the key {key.name!r} may make {key.per_minute} requests a minute: wait a moment"
        raise ApiError(429, said, code="rate_limit_exceeded", retry_after=wait)
    request.state.key = key
    return key


Caller = Annotated[ApiKey, Depends(_caller)]

RepeatKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        max_length=200,
        description="A text of your own: a repeated request with it gives the first one's job, and draws nothing.",
    ),
]


Prefer = Annotated[str | None, Header(description="`respond-async`: answer at once with the job, with status 202.")]


def digest_of(*parts: bytes | str | None) -> str:
    """A hash of a request's parts."""
    digest = hashlib.sha256()
    for part in parts:
        data = b"" if part is None else part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()
