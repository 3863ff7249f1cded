"""HEAD and OPTIONS of every route (RFC 9110 9.3.2 and 9.3.7), so that no route needs to write them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from sanic import HTTPResponse, Request, Sanic

from server.http.guard import public


def add_head_and_options(app: Sanic[Any, Any]) -> None:
    """Add to each path of ``app`` a HEAD that does the same as its GET, and an OPTIONS that names its methods.

    HEAD has the GET's handler, hence its access policy and its rate limit; Sanic leaves the body out. Call after all
    blueprints were registered.
    """
    for group in list(app.router.groups.values()):
        methods = set(group.methods)
        get = next((route for route in group.routes if "GET" in route.methods), None)
        if get is not None and "HEAD" not in methods and not hasattr(get.handler, "is_websocket"):
            app.add_route(get.handler, group.uri, methods=["HEAD"], name=_name(get.name, "head"), strict_slashes=True)
            methods.add("HEAD")
        if "OPTIONS" not in methods:
            name = _name(group.routes[0].name, "options")
            allowed = ", ".join(sorted({*methods, "OPTIONS"}))
            app.add_route(_options(allowed), group.uri, methods=["OPTIONS"], name=name, strict_slashes=True)


def _name(route_name: str, suffix: str) -> str:
    return f"{route_name.partition('.')[2].replace('.', '_')}_{suffix}"


def _options(allowed: str) -> Callable[..., Coroutine[Any, Any, HTTPResponse]]:
    @public
    async def options(_: Request, **__: str) -> HTTPResponse:
        """Return the methods of this address."""
        return HTTPResponse(status=204, headers={"Allow": allowed})

    return options
