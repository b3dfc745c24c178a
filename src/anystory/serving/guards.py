"""What a request has to get past before anything reads it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from anyio import move_on_after
from starlette.datastructures import Headers
from starlette.responses import JSONResponse

from anystory.serving.errors import ApiError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from anystory.serving.metrics import Metrics

__all__ = ["LOOPBACK", "CountRequests", "LimitBody", "OnlyThisMachine"]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Names of this machine for itself."""


_LINGER = 2.0
"""Seconds for which the rest of a refused request is read and thrown away."""


class LimitBody:
    """Refuses requests with more than so many bytes, as soon as that is known.

    Args:
        app: What answers the others.
        most: Bytes.
    """

    def __init__(self, app: ASGIApp, most: int) -> None:
        self.app, self.most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        said = Headers(scope=scope).get("content-length", "0")
        if said.isdecimal() and int(said) > self.most:
            await self._refuse(receive, send, more=True)
            return
        seen, more = 0, True

        async def counted() -> Message:
            nonlocal seen, more
            message = await receive()
            seen += len(message.get("body", b""))
            more = message.get("more_body", False)
            if seen > self.most:
                raise _TooLargeError
            return message

        async def answered(message: Message) -> None:
            if seen <= self.most:  # else whoever was reading has an answer of its own to what was raised
                await send(message)

        with suppress(_TooLargeError):
            await self.app(scope, counted, answered)
        if seen > self.most:
            await self._refuse(receive, send, more=more)

    async def _refuse(self, receive: Receive, send: Send, *, more: bool) -> None:
        """Answer, then read what still comes (`more`): to close on unread bytes can take the answer back."""
        error = ApiError(413, f"a request has at most {self.most:,} bytes: send less", code="too_large")
        answer = JSONResponse(error.body(), status_code=413, headers={"Connection": "close"})
        await send({"type": "http.response.start", "status": answer.status_code, "headers": answer.raw_headers})
        await send({"type": "http.response.body", "body": answer.body, "more_body": more})
        if more:
            with move_on_after(_LINGER):
                while (await receive()).get("more_body", False):
                    pass
            await send({"type": "http.response.body"})


class _TooLargeError(Exception):
    """More bytes came than are taken."""


class CountRequests:
    """Counts requests by their route and what was answered.

    Args:
        app: What answers.
        metrics: The server's.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "other")
                self.metrics.requests.labels(method=scope["method"], route=route, status=message["status"]).inc()
            await send(message)

        await self.app(scope, receive, counted)


class OnlyThisMachine:
    """For a server without keys: refuses requests that a web page of somebody else makes through a browser here.

    Such a page is known by the `Origin` that its browser sends, or, if it has pointed a name of its own at this
    machine, by the `Host`.

    Args:
        app: What answers the others.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            origin = headers.get("origin")
            hosts = [f"//{headers.get('host', '')}", *([origin] if origin is not None else [])]
            if not all(_host(text) in LOOPBACK for text in hosts):
                said = "this server has no API keys and answers programs of this machine only"
                error = ApiError(403, said, code="only_this_machine")
                await JSONResponse(error.body(), status_code=403)(scope, receive, send)
                return
        await self.app(scope, receive, send)


def _host(text: str) -> str | None:
    try:
        return urlsplit(text).hostname
    except ValueError:
        return None
