"""Makes starting hundreds of applications in one process cheap: routers with equal routes are compiled once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sanic_routing import BaseRouter


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
