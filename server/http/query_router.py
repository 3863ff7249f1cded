"""Sanic's router, with the HTTP method QUERY (RFC 10008): a safe request whose body contains the question."""

from __future__ import annotations

from typing import cast

from sanic import HTTPMethod
from sanic.router import Router


class QueryRouter(Router):
    """Routes QUERY like any other method."""

    ALLOWED_METHODS = (*Router.ALLOWED_METHODS, cast(HTTPMethod, "QUERY"))
