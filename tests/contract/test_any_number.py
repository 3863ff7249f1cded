"""No number, wherever it is, causes a server error: it is answered, or refused as an error of the caller."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx

from server.rest.openapi.document import build_document
from tests.conftest import AppFactory, ProjectMaker
from tests.contract.number_places import IN_JSON, Sent, requests_with_numbers

EACH = 2
DOCUMENTED = (503, 504)
"""Without an embedder there is no search by meaning, and a question of no time is too late."""


async def test_no_number_in_any_place_fails_the_server(
    start_app: AppFactory, project: ProjectMaker, bearer: Callable[..., dict[str, str]]
) -> None:
    await project("numbers")
    server = await start_app()
    document = build_document(server.app)
    places = list(requests_with_numbers(document, "numbers", EACH))
    assert len(places) > 500
    failed: list[str] = []
    waiting, headers = iter(places), bearer("admin", ["numbers"])

    async def ask() -> None:
        async with httpx.AsyncClient(base_url=server.base_url, headers=headers, timeout=60) as http:
            for sent in waiting:
                status = await _status(http, sent)
                if status >= 500 and status not in DOCUMENTED:
                    failed.append(f"{status} for {sent}")

    await asyncio.gather(*(ask() for _ in range(4)))
    assert failed == []


async def _status(http: httpx.AsyncClient, sent: Sent) -> int:
    headers = {"Content-Type": sent.content_type} if sent.content_type else {}
    return (await http.request(sent.method, sent.path, content=sent.body, headers=headers)).status_code


async def test_panels_take_every_number_or_refuse_it(
    start_app: AppFactory, project: ProjectMaker, bearer: Callable[..., dict[str, str]]
) -> None:
    """Steps and points: those of 1e18 once met the database's limit."""
    await project("numbers")
    server = await start_app()
    async with httpx.AsyncClient(base_url=server.base_url, headers=bearer("admin", ["numbers"]), timeout=60) as http:
        for name in ("intervalMs", "maxDataPoints", "startTime"):
            for number in IN_JSON:
                body = (
                    f'{{"{name}":{number},"range":{{"from":"2026-01-01T00:00:00Z","to":"2026-01-02T00:00:00Z"}},'
                    '"targets":[{"refId":"A","target":"timeseries","payload":{"metric":"cost"}}]}'
                )
                answer = await http.post("/grafana/query", content=body, headers={"Content-Type": "application/json"})
                assert answer.status_code in (200, 400), (name, number[:40], answer.text)
