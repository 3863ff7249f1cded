"""Errors of the API for what the driver raises."""

from __future__ import annotations

from typing import Any, Final

import asyncpg

from server.errors import (
    ApiError,
    Conflict,
    DatabaseUnavailable,
    InternalError,
    InvalidParameter,
    QueryTimeout,
    QueryTooLarge,
)

# Maps a SQLSTATE, or its first two characters, to the error that the caller sees. The longest match wins.
SQLSTATE_ERRORS: Final[dict[str, type[ApiError]]] = {
    "08": DatabaseUnavailable,
    "22": InvalidParameter,
    "23505": Conflict,
    "23503": Conflict,
    "25006": DatabaseUnavailable,
    "40": DatabaseUnavailable,
    "53": DatabaseUnavailable,
    "53400": QueryTooLarge,
    "54": QueryTooLarge,
    "55P03": DatabaseUnavailable,
    "57014": QueryTimeout,
    "57P": DatabaseUnavailable,
    "58": DatabaseUnavailable,
}


def translated(error: Exception) -> Exception:
    """Return the API's error for a driver's ``error``; other exceptions are returned unchanged."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, asyncpg.PostgresError):
        state: Any = getattr(error, "sqlstate", None) or ""
        for length in (5, 3, 2):
            kind = SQLSTATE_ERRORS.get(state[:length])
            if kind is not None:
                return kind()
        return InternalError()
    if isinstance(error, TimeoutError):
        return QueryTimeout()
    if isinstance(error, asyncpg.InterfaceError | asyncpg.InternalClientError | OSError):
        return DatabaseUnavailable()
    return error
