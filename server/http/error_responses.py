"""Conversion of any exception into the body that the caller of that surface expects.

REST answers are ``application/problem+json`` (RFC 9457). Under ``/grafana`` the body is what Grafana's panel and health
check show. Other surfaces (OTLP under ``/v1``) register a renderer for their prefix.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from sanic import HTTPResponse, Request, Sanic
from sanic.exceptions import (
    MethodNotAllowed as SanicMethodNotAllowed,
)
from sanic.exceptions import (
    NotFound as SanicNotFound,
)
from sanic.exceptions import (
    PayloadTooLarge as SanicPayloadTooLarge,
)
from sanic.exceptions import RequestTimeout as SanicRequestTimeout
from sanic.exceptions import (
    SanicException,
    ServiceUnavailable,
)

from server.errors import (
    ApiError,
    BadRequest,
    InternalError,
    MethodNotAllowed,
    NotFound,
    Overloaded,
    PayloadTooLarge,
    RequestTimeout,
)
from server.text.json_text import dumps

logger = logging.getLogger("observatory.errors")

Renderer = Callable[[Request, ApiError], HTTPResponse]
RENDERERS: dict[str, Renderer] = {}
"""Path prefix to renderer; REST's problem+json is used where none matches."""

HOME = "/docs"
"""Page to which a browser is led that asks for the bare address."""
PROBLEM_TYPE = "/docs/errors#"
_STATIC_BODY = b'{"type":"about:blank","title":"The server made a mistake","status":500,"code":"internal_error"}'

FRAMEWORK_ERRORS: tuple[tuple[type[SanicException], type[ApiError]], ...] = (
    (SanicNotFound, NotFound),
    (SanicMethodNotAllowed, MethodNotAllowed),
    (SanicPayloadTooLarge, PayloadTooLarge),
    (ServiceUnavailable, Overloaded),
    (SanicRequestTimeout, RequestTimeout),
)


def as_api_error(exception: BaseException) -> ApiError:
    """Return the catalogue's error for ``exception``: itself, its counterpart, or InternalError."""
    if isinstance(exception, ApiError):
        return exception
    if isinstance(exception, SanicException):
        headers = {str(key): str(value) for key, value in (getattr(exception, "headers", None) or {}).items()}
        if isinstance(exception, SanicPayloadTooLarge) and "header" in str(exception):
            return PayloadTooLarge("The head of the request is larger than 8 KiB.", headers=headers)
        for framework, ours in FRAMEWORK_ERRORS:
            if isinstance(exception, framework):
                return ours(_sentence(ours, headers), headers=headers)
        if exception.status_code is not None and 400 <= exception.status_code < 500:
            return BadRequest(headers=headers)
    return InternalError()


def _sentence(kind: type[ApiError], headers: Mapping[str, str]) -> str | None:
    """Return what the caller can do instead, if that is known; None for the error's own sentence."""
    if kind is NotFound:
        return "There is nothing at this address; /docs has all addresses."
    if kind is MethodNotAllowed and "Allow" in headers:
        return f"This address takes {headers['Allow']}."
    return None


def problem(request: Request, error: ApiError) -> HTTPResponse:
    """Return RFC 9457 problem details with our ``code``, ``request_id`` and ``errors``."""
    body: dict[str, Any] = {
        "type": f"{PROBLEM_TYPE}{error.code}",
        "title": error.title(),
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        "request_id": getattr(request.ctx, "request_id", None),
        **error.extensions,
    }
    if error.errors:
        body["errors"] = error.errors
    return _response(body, error.status, error.headers, "application/problem+json")


def grafana_error(request: Request, error: ApiError) -> HTTPResponse:
    """Return the body of which Grafana shows ``message`` in a panel and ``error`` in the data source's health."""
    body = {
        "message": error.detail,
        "error": {"code": error.code, "message": error.detail},
        "request_id": getattr(request.ctx, "request_id", None),
    }
    return _response(body, error.status, error.headers, "application/json")


RENDERERS["/grafana"] = grafana_error


def _response(body: Any, status: int, headers: Mapping[str, str], content_type: str) -> HTTPResponse:
    return HTTPResponse(dumps(body), status=status, headers=dict(headers), content_type=content_type)


def render(request: Request, error: ApiError) -> HTTPResponse:
    """Return ``error`` in the form of the surface of ``request``."""
    path = request.path
    if path == "/" and "text/html" in request.headers.get("accept", ""):
        # A person with the bare address. A data source gets 404, or its test would pass with half an address.
        return HTTPResponse(status=303, headers={"Location": HOME})
    for prefix, renderer in RENDERERS.items():
        if path == prefix or path.startswith(prefix + "/"):
            return renderer(request, error)
    return problem(request, error)


def install(app: Sanic[Any, Any]) -> None:
    """Make ``app`` answer every exception through :func:`render`."""

    async def handle(request: Request, exception: Exception) -> HTTPResponse:
        try:
            error = as_api_error(exception)
            if error.status >= 500:
                logger.error(
                    "request failed",
                    exc_info=exception if isinstance(error, InternalError) else None,
                    extra={
                        "request_id": getattr(request.ctx, "request_id", None),
                        "code": error.code,
                        "cause": type(exception.__cause__ or exception).__name__,
                    },
                )
            return render(request, error)
        except Exception:  # the last resort: an error while reporting an error
            logger.exception("the error handler failed")
            return HTTPResponse(_STATIC_BODY, status=500, content_type="application/problem+json")

    app.error_handler.add(Exception, handle)
