"""Errors of the API as exceptions.

ApiError
├── InvalidRequest      400, 409, 413, 415, 422: change the request
├── InvalidCredential   401: get a new credential
├── AccessDenied        403: the credential does not permit it
├── NotFound            404, 410
├── RateLimited         429: ``retry_after`` says when to come back
└── ServerFailed        5xx
TransportFailed         no answer came
StreamEnded             the server ended a live tail for good
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ApiError(Exception):
    """An answer of the API that is an error. ``code`` is stable; ``detail`` is for people and may change."""

    def __init__(self, status: int, problem: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        self.status = status
        self.code = str(problem.get("code", ""))
        self.detail = str(problem.get("detail") or problem.get("title") or "")
        self.errors: list[dict[str, Any]] = list(problem.get("errors") or [])
        """Places in the request: ``parameter`` or ``pointer``, and ``detail``."""
        self.request_id: str | None = problem.get("request_id") or headers.get("x-request-id")
        self.retry_after = retry_after(headers)
        """Seconds after which the same request may succeed, if the server says so."""
        super().__init__(f"{status} {self.code}: {self.detail}")


class InvalidRequest(ApiError):
    """The request has to be changed."""


class InvalidCredential(ApiError):
    """The credential is missing, expired, revoked, or not for this server."""


class AccessDenied(ApiError):
    """The credential does not permit this."""


class NotFound(ApiError):
    """There is no such thing, or not for this credential."""


class RateLimited(ApiError):
    """The credential has no request left at this moment."""


class ServerFailed(ApiError):
    """The server could not answer."""


class TransportFailed(Exception):
    """No answer came: the connection failed, or it took too long."""


class StreamEnded(Exception):
    """The server ended a live tail, and coming back is of no use. ``reason`` is a code."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


BY_STATUS: dict[int, type[ApiError]] = {
    401: InvalidCredential,
    403: AccessDenied,
    404: NotFound,
    410: NotFound,
    429: RateLimited,
}


def error_of(status: int, problem: Mapping[str, Any], headers: Mapping[str, str]) -> ApiError:
    """Return the exception for an answer with ``status`` of 400 or more."""
    kind = BY_STATUS.get(status, ServerFailed if status >= 500 else InvalidRequest)
    return kind(status, problem, headers)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of ``Retry-After``; None without it, and for a date, which this API does not send."""
    text = headers.get("retry-after", "")
    return float(text) if text.isdigit() else None
