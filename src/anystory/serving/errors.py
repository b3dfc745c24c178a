"""What the API says when it refuses something, in the shape of OpenAI's errors."""

from __future__ import annotations

from typing import Any

__all__ = ["ApiError"]


class ApiError(Exception):
    """A refusal.

    Args:
        status: Of the HTTP answer.
        message: A sentence: what was wrong, what was expected, what to do.
        param: The request's field that it is about.
        code: A word for programs.
        retry_after: Seconds after which it may be tried again.
        more: Further entries of the error.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
        more: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.retry_after, self.more = retry_after, more or {}

    def body(self) -> dict[str, Any]:
        """The answer."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        shown = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return {"error": shown | self.more}
