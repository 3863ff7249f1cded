"""Sanic's router, with QUERY, HEAD and OPTIONS for every route.

QUERY (RFC 10008) is a safe request whose body contains the question; routes declare it like any other method. HEAD does
what the GET of the same address does (RFC 9110 9.3.2), OPTIONS names the methods (9.3.7). The router finds both when
they are asked for, since a route for each would triple the time it takes to build an application.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Any, cast

from sanic import HTTPMethod, HTTPResponse, Request
from sanic.exceptions import MethodNotAllowed, NotFound
from sanic.router import Router
from sanic_routing.route import Route

from server.http.guard import public

Found = tuple[Route, Callable[..., Any], dict[str, Any]]
"""A route, its handler, and the handler's arguments from the path."""


class MethodRouter(Router):
    """Routes QUERY like any other method, HEAD to the GET of the address, and OPTIONS to a list of its methods."""

    ALLOWED_METHODS = (*Router.ALLOWED_METHODS, cast(HTTPMethod, "QUERY"))

    def _get(self, path: str, method: str, host: str | None) -> Found:
        try:
            if method != "OPTIONS":
                return super()._get(path, method, host)
        except MethodNotAllowed:
            pass
        declared = dict(self._declared(path, host))
        if not declared:
            return super()._get(path, method, host)
        get = declared.get("GET")
        has_head = get is not None and not hasattr(get[1], "is_websocket")
        if get is not None and has_head and method == "HEAD":
            return get
        allowed = sorted({*declared, "OPTIONS"} | ({"HEAD"} if has_head else set()))
        if method == "OPTIONS":
            route, _, arguments = next(iter(declared.values()))
            return route, _options(", ".join(allowed)), arguments
        raise MethodNotAllowed(f"Method {method} not allowed for URL {path}", method=method, allowed_methods=allowed)

    def _declared(self, path: str, host: str | None) -> Iterator[tuple[str, Found]]:
        """Yield each method that a route of the address has; Sanic's refusal does not always name them."""
        for method in self.ALLOWED_METHODS:
            if method != "OPTIONS":
                with suppress(MethodNotAllowed, NotFound):
                    yield method, super()._get(path, method, host)


@lru_cache(maxsize=64)
def _options(allowed: str) -> Callable[..., Any]:
    @public
    async def options(_: Request, **__: str) -> HTTPResponse:
        """Return the methods of this address."""
        return HTTPResponse(status=204, headers={"Allow": allowed})

    return options
