"""The choice of the layout ``shared``, and the week from which a database has it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from server.distribution_settings import CITUS
from server.http.services import Services
from server.ingest.writing.content_start import ALWAYS, NEVER, ContentStart
from server.ingest.writing.prepared_span import prepare_span
from server.schema import migrate
from server.storage.database import Database
from tests.conftest import AppFactory, ProjectMaker
from tests.ingest.otlp_payloads import JSON
from tests.ingest.shared_talks import Writer, counts, message, talk

pytestmark = pytest.mark.one_postgresql("content stored once is refused on a cluster: triggers note its unused parts")


async def test_the_setting_decides_for_new_spans(
    start_app: AppFactory, project: ProjectMaker, bearer: Any, owner: asyncpg.Connection
) -> None:
    import httpx

    await project("alpha")
    for number, layout in enumerate(("inline", "shared", "inline", "auto"), 1):
        server = await start_app(content_layout=layout)
        async with httpx.AsyncClient(base_url=server.base_url, timeout=30, headers=bearer(projects=["alpha"])) as http:
            answer = await http.post("/v1/traces", content=request(number), headers={"Content-Type": JSON})
            assert answer.status_code == 200, answer.text
            rows = (await http.get("/api/v1/traces", params={"search": "weather", "fields": "io,span_id"})).json()[
                "data"
            ]
        assert len(rows) == number
        assert len({json.dumps([row["input_messages"], row["output_text"]]) for row in rows}) == 1
    assert await counts(owner) == (3, 2)


async def test_a_database_of_an_earlier_version_shares_content_from_the_next_week_on(
    services: Services, project: ProjectMaker, owner: asyncpg.Connection
) -> None:
    migration = (Path(migrate.__file__).parent / "0075_shared_from_when.sql").read_text()
    await project("alpha")
    new = ContentStart("auto", services.writes)
    await new.learn()
    assert new.moment == ALWAYS, "a database without spans"
    await Writer(services, "inline").store("alpha", talk(1))
    await owner.execute("DROP FUNCTION shared_content_begins()")
    await owner.execute(migration)
    now = datetime.now(UTC)
    monday = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=7 - now.weekday())
    old = ContentStart("auto", services.writes)
    assert old.moment == NEVER
    await old.learn()
    assert old.moment == monday
    before, after = [
        prepare_span("alpha", replace(talk(1)[0], ts=at), shared_from=old.moment)
        for at in (monday - timedelta(microseconds=1), monday)
    ]
    assert (before.content, after.content is None) == (None, False)


def test_a_cluster_shares_no_content_and_looks_for_none() -> None:
    cluster = Database("postgresql://", role=None, size=1, acquire_timeout=1, statement_timeout=1,
                       application_name="none", distribution=CITUS)  # fmt: skip
    assert ContentStart("auto", cluster).moment == NEVER


def request(number: int) -> bytes:
    """Return a request in OTLP with one call."""
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.input.messages": json.dumps([message("system", "be brief"), message("user", "how is the weather?")]),
        "gen_ai.output.messages": json.dumps([message("assistant", "fine", finish_reason="stop")]),
    }
    now = int(datetime.now(UTC).timestamp() * 1e9) - number * 1_000_000_000
    span = {
        "traceId": f"{number:032x}",
        "spanId": f"{number:016x}",
        "name": "chat",
        "startTimeUnixNano": str(now - 1_000_000),
        "endTimeUnixNano": str(now),
        "attributes": [{"key": key, "value": {"stringValue": value}} for key, value in attributes.items()],
    }
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode()
