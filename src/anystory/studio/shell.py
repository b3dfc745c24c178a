"""Around every answer: the browser's session by its cookie, and a page that stays on this machine."""

from __future__ import annotations

import re

from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from anystory.studio.texts import LANGUAGES

__all__ = ["COOKIE", "PageShell"]

COOKIE = "anystory-studio"

_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; frame-ancestors 'none'; form-action 'self'; base-uri 'self'"
)
"""Gradio's frame needs scripts in the page; nothing comes from another place."""

_OF_GRADIO = re.compile(r'<meta\s+(?:property|name)="(?:og|twitter):[^>]*>|<link rel="manifest"[^>]*>')
"""What its page says of Gradio itself and loads for apps of a phone."""

_SPEAKS = '<script>Object.defineProperty(navigator, "language", {{value: "{}"}});</script>'
"""Gradio asks the browser for its language, and tells screen readers that the page has it: it hears the page's own."""

_OWN = ("/api/", "/files/")


class PageShell(BaseHTTPMiddleware):
    """See the module."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        """Answer a request."""
        path = request.url.path
        if path.startswith("/api/") and request.method != "GET" and "x-studio-language" not in request.headers:
            # Another site's form cannot send this header.
            return JSONResponse({"field": None, "message": "only the studio's own page may ask"}, status_code=403)
        is_page = path.strip("/") in LANGUAGES
        if not is_page and not path.startswith(_OWN):
            response = await call_next(request)
            if path.startswith("/static/"):
                response.headers["cache-control"] = "no-cache"  # after an update the page's scripts belong together
            return response
        token, request.state.session = request.app.state.sessions.get(request.cookies.get(COOKIE))
        response = await call_next(request)
        if is_page:
            response = await _own_page(response, path.strip("/"))
        if request.cookies.get(COOKIE) != token:
            response.set_cookie(COOKIE, token, max_age=400 * 86400, httponly=True, samesite="strict")
        return response


async def _own_page(response: Response, language: str) -> Response:
    """Gradio's page in the right language, without what it would load from elsewhere."""
    body = b"".join([part async for part in response.body_iterator])  # pyright: ignore[reportAttributeAccessIssue]
    if response.status_code != 200 or not response.headers.get("content-type", "").startswith("text/html"):
        return Response(body, response.status_code, dict(response.headers))
    text = _OF_GRADIO.sub("", body.decode("utf-8")).replace('lang="en"', f'lang="{language}"', 1)
    text = text.replace("<head>", f"<head>{_SPEAKS.format(language)}", 1)
    headers = {"content-security-policy": _POLICY, "x-content-type-options": "nosniff", "cache-control": "no-store"}
    return Response(text, media_type="text/html", headers={**headers, "referrer-policy": "same-origin"})
