"""A node that is back after a moment: nobody is answered 503 because of connections that ended with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx
import pytest

from tests.citus.citus_cluster import let_in, shut_out
from tests.citus.conftest import AWAY
from tests.conftest import AppServer
from tests.span_factory import make_span, store

AT_ONCE = 8


@pytest.mark.parametrize("kind", ["list", "list of both", "metrics", "score", "annotation", "deletion"])
async def test_requests_after_a_node_came_back_are_answered(
    app_server: AppServer,
    client: httpx.AsyncClient,
    bearer: Callable[..., dict[str, str]],
    pair: tuple[str, str],
    owner_url: str,
    kind: str,
) -> None:
    client.headers.update(bearer("admin", list(pair)))
    made = [make_span() for _ in range(3 * AT_ONCE)]
    for name in pair:
        await store(app_server.services, name, made)
    project = pair[1]

    async def ask(number: int) -> int:
        # Limits and windows of their own: cached answers would say nothing of nodes.
        requests = {
            "list": ("GET", f"traces?project_id={project}&limit={number}", None),
            "list of both": ("GET", f"traces?project_id={','.join(pair)}&limit={number}", None),
            "metrics": ("GET", f"metrics?project_id={project}&metric=spans,duration_p95&from=now-{number}m", None),
            "score": ("POST", "scores", {"trace_id": "a" * 32, "name": "x", "value": number}),
            "annotation": ("POST", "annotations", {"project_id": project, "title": f"{number}"}),
            "deletion": ("DELETE", f"traces/{made[number].trace_id}?project_id={project}", None),
        }
        method, path, body = requests[kind]
        headers = {"X-Observatory-Project": project} if kind == "score" else {}
        answer = await client.request(method, f"/api/v1/{path}", json=body, headers=headers)
        assert answer.status_code < 400 or answer.status_code == 503, answer.text
        return answer.status_code

    for start in range(0, 3 * AT_ONCE, AT_ONCE):
        answers = await asyncio.gather(*(ask(number) for number in range(start or 1, start + AT_ONCE)))
        assert 503 not in answers
        await shut_out(owner_url, AWAY)
        await let_in(owner_url, AWAY)
