"""The error catalogue: every way a request can fail, as one class each.

    ApiError
      400  BadRequest: InvalidParameter UnknownParameter InvalidCursor InvalidBody FilterTooComplex UnknownMetric
           AmbiguousCredentials
      401  MissingToken InvalidToken
      403  InsufficientScope ProjectForbidden GrantForbidden
      404  NotFound BudgetNotFound TraceNotFound SpanNotFound SessionNotFound UserNotFound
      405  MethodNotAllowed   408 RequestTimeout     409 Conflict
      413  PayloadTooLarge    415 UnsupportedMediaType
      422  QueryTooLarge      429 RateLimited TooManyConcurrent ShareExhausted
      500  InternalError
      503  DatabaseUnavailable Overloaded ProjectMisconfigured MeaningUnavailable
      504  QueryTimeout PoolTimeout

The first line of a class's docstring is its public title, so no error lacks an explanation. ``code`` is stable and
documented in docs/reference/errors.md (a test compares them). These are plain exceptions: any layer may raise them, and
:mod:`server.http.error_responses` alone turns them into a body.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar


class ApiError(Exception):
    """The request failed."""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500

    def __init__(
        self,
        detail: str | None = None,
        *,
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        extensions: Mapping[str, Any] | None = None,
    ) -> None:
        """``detail`` is shown to the caller; each of ``errors`` points at one fault, with a ``parameter`` or a JSON
        ``pointer`` and a ``detail``.
        """
        self.detail = detail or self.title()
        self.errors = [dict(item) for item in errors]
        self.headers = dict(headers or {})
        self.extensions = dict(extensions or {})
        super().__init__(self.detail)

    @classmethod
    def title(cls) -> str:
        """Short public sentence of this kind of error."""
        return (cls.__doc__ or "").strip().splitlines()[0].rstrip(".")


class BadRequest(ApiError):
    """The request cannot be understood."""

    code = "bad_request"
    status = 400


class WrongProtocol(BadRequest):
    """This port speaks HTTP/1.1."""

    code = "wrong_protocol"


class InvalidParameter(BadRequest):
    """The value of a parameter is not acceptable."""

    code = "invalid_parameter"

    @classmethod
    def named(cls, parameter: str, detail: str) -> InvalidParameter:
        """Return the error for one query ``parameter``."""
        return cls(f"{parameter}: {detail}", errors=[{"parameter": parameter, "detail": detail}])


class UnknownParameter(BadRequest):
    """The route does not have this parameter."""

    code = "unknown_parameter"


class InvalidCursor(BadRequest):
    """The cursor is not valid for this request."""

    code = "invalid_cursor"


class InvalidBody(BadRequest):
    """The body of the request is not acceptable."""

    code = "invalid_body"

    @classmethod
    def of(cls, error: ValueError) -> InvalidBody:
        """Return the error whose sentence may begin with the name of a member of the body: ``label: too long``."""
        member, colon, detail = str(error).partition(": ")
        return cls.at(f"/{member}", detail) if colon and member.isidentifier() else cls(str(error))

    @classmethod
    def at(cls, pointer: str, detail: str) -> InvalidBody:
        """Return the error for one place in the body, named by a JSON pointer (RFC 6901)."""
        return cls(f"{pointer or '/'}: {detail}", errors=[{"pointer": pointer, "detail": detail}])


class FilterTooComplex(BadRequest):
    """The filter is deeper or longer than allowed."""

    code = "filter_too_complex"


class UnknownMetric(BadRequest):
    """There is no metric with this name."""

    code = "unknown_metric"


class MissingToken(ApiError):
    """The request has no credential."""

    code = "missing_token"
    status = 401


class InvalidToken(ApiError):
    """The credential is not valid."""

    code = "invalid_token"
    status = 401


class AmbiguousCredentials(BadRequest):
    """The request has more than one credential."""

    code = "ambiguous_credentials"


class InsufficientScope(ApiError):
    """The credential does not permit this."""

    code = "insufficient_scope"
    status = 403


class ProjectForbidden(ApiError):
    """The credential does not give access to this project."""

    code = "project_forbidden"
    status = 403


class OriginForbidden(ApiError):
    """A web page of another origin may not open a WebSocket here."""

    code = "origin_forbidden"
    status = 403


class GrantForbidden(ApiError):
    """You cannot grant more than you have."""

    code = "grant_forbidden"
    status = 403


class NotFound(ApiError):
    """There is nothing at this address."""

    code = "not_found"
    status = 404


class BudgetNotFound(NotFound):
    """There is no such budget."""

    code = "budget_not_found"


class TraceNotFound(NotFound):
    """There is no such trace."""

    code = "trace_not_found"


class SpanNotFound(TraceNotFound):
    """There is no such span."""

    code = "span_not_found"


class SessionNotFound(NotFound):
    """There is no such session."""

    code = "session_not_found"


class UserNotFound(NotFound):
    """There is no such user."""

    code = "user_not_found"


class ExportExpired(ApiError):
    """The export has expired."""

    code = "export_expired"
    status = 410


class RequestTimeout(ApiError):
    """The request came too slowly."""

    code = "request_timeout"
    status = 408


class MethodNotAllowed(ApiError):
    """This address does not support the method."""

    code = "method_not_allowed"
    status = 405


class FormatUnavailable(ApiError):
    """This server cannot write the format that was asked for."""

    code = "format_unavailable"
    status = 501


class Conflict(ApiError):
    """The request conflicts with the current state."""

    code = "conflict"
    status = 409


class PayloadTooLarge(ApiError):
    """The request is larger than this route accepts."""

    code = "payload_too_large"
    status = 413


class UnsupportedMediaType(ApiError):
    """This route does not accept the media type or encoding of the body."""

    code = "unsupported_media_type"
    status = 415


class UpgradeRequired(ApiError):
    """The route is for WebSockets."""

    code = "upgrade_required"
    status = 426


class QueryTooLarge(ApiError):
    """The query needs more memory or disk than one request may use."""

    code = "query_too_large"
    status = 422


class RateLimited(ApiError):
    """Too many requests."""

    code = "rate_limited"
    status = 429


class TooManyConcurrent(RateLimited):
    """This caller has too many requests in progress."""

    code = "too_many_concurrent"


class ShareExhausted(RateLimited):
    """The project's share of the server is in use."""

    code = "share_exhausted"


class InternalError(ApiError):
    """The server made a mistake."""

    code = "internal_error"
    status = 500


class DatabaseUnavailable(ApiError):
    """The database cannot be reached."""

    code = "database_unavailable"
    status = 503

    def __init__(self, detail: str | None = None, *, absent: Sequence[str] = (), **kwargs: Any) -> None:
        """``absent``: the projects of the node that does not answer, where a database has several."""
        kwargs.setdefault("headers", {"Retry-After": "2"})
        super().__init__(detail or (_absence(absent) if absent else None), **kwargs)
        self.absent = tuple(absent)


def _absence(projects: Sequence[str]) -> str:
    named = f"project {projects[0]}" if len(projects) == 1 else f"projects {', '.join(projects)}"
    return f"The node of the database that holds {named} does not answer; other projects are not affected"


class Overloaded(ApiError):
    """The server is overloaded."""

    code = "overloaded"
    status = 503

    def __init__(self, detail: str | None = None, **kwargs: Any) -> None:
        kwargs.setdefault("headers", {"Retry-After": "1"})
        super().__init__(detail, **kwargs)


class ProjectMisconfigured(ApiError):
    """The project's redaction rules are invalid, so nothing is stored until they are corrected."""

    code = "project_misconfigured"
    status = 503

    def __init__(self, detail: str | None = None, **kwargs: Any) -> None:
        kwargs.setdefault("headers", {"Retry-After": "60"})
        super().__init__(detail, **kwargs)


class MeaningUnavailable(ApiError):
    """Search by meaning is not possible at the moment; everything else is."""

    code = "meaning_unavailable"
    status = 503

    def __init__(self, detail: str | None = None, **kwargs: Any) -> None:
        kwargs.setdefault("headers", {"Retry-After": "30"})
        super().__init__(detail and f"Search by meaning is not possible: {detail}.", **kwargs)


class QueryTimeout(ApiError):
    """The query took too long."""

    code = "query_timeout"
    status = 504


class PoolTimeout(ApiError):
    """No database connection became free in time."""

    code = "pool_timeout"
    status = 504

    def __init__(self, detail: str | None = None, **kwargs: Any) -> None:
        kwargs.setdefault("headers", {"Retry-After": "1"})
        super().__init__(detail, **kwargs)


def catalogue() -> Iterator[type[ApiError]]:
    """Yield every concrete error class, parents first."""
    pending: list[type[ApiError]] = list(ApiError.__subclasses__())
    while pending:
        kind = pending.pop(0)
        yield kind
        pending[:0] = kind.__subclasses__()
