"""Makes hundreds of applications and clients in one process cheap: what is equal of them is made once."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import httpx._transports.default
import sanic_routing.route
import sanic_routing.router
from sanic import Sanic
from sanic.touchup.service import TouchUp
from sanic_routing import BaseRouter


def read_paths_once() -> None:
    """Keep the parts of each path, which Sanic reads some five times a route: a third of making an application."""
    for name in ("path_to_parts", "parts_to_path"):
        kept = lru_cache(maxsize=None)(getattr(sanic_routing.router, name))
        for module in (sanic_routing.route, sanic_routing.router):
            setattr(module, name, kept)


def read_certificates_once() -> None:
    """Keep the TLS context of httpx: each client reads a quarter of a megabyte of certificates otherwise."""
    transports: Any = httpx._transports.default
    transports.create_ssl_context = lru_cache(maxsize=None)(transports.create_ssl_context)


def compile_routers_once() -> None:
    """Keep what Sanic compiles of a router, by its source: the function takes the router as an argument."""
    render: Callable[..., None] = BaseRouter._render
    compiled: dict[str, tuple[Any, Any]] = {}

    def render_once(router: BaseRouter, do_compile: bool = True, do_optimize: bool = False) -> None:
        render(router, do_compile=False)
        known = compiled.get(router.find_route_src)
        if known is None:
            render(router, do_compile, do_optimize)
            compiled[router.find_route_src] = router._find_route, router._matchers
        else:
            router._find_route, router._matchers = known

    setattr(BaseRouter, "_render", render_once)  # noqa: B010 - mypy takes no assignment to a method


def touch_up_once() -> None:
    """Keep the methods that Sanic rewrites for an application, as long as the next one has the same signals."""
    run: Callable[[Any], None] = TouchUp.run
    latest: list[frozenset[str]] = []

    def run_once(app: Sanic[Any, Any]) -> None:
        signals = frozenset(signal.name for signal in app.signal_router.routes)
        if latest != [signals]:
            run(app)
            latest[:] = [signals]

    setattr(TouchUp, "run", run_once)  # noqa: B010
