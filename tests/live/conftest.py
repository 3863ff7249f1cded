"""Clients of the live tail, and the events that they receive."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from server.http.services import Services
from server.ingest.writing.dimensions import Dimensions
from server.ingest.writing.prepared_span import prepare_span
from server.ingest.writing.span_writer import SpanWriter

LIVE = "/api/v1/traces/live"


@dataclass
class Event:
    """An event as it came."""

    name: str
    data: Any
    id: str = ""


@dataclass
class Tail:
    """A client that collects events while it is open."""

    events: list[Event] = field(default_factory=list)
    is_over: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, event: Event | None) -> None:
        if event is None:
            self.is_over = True
        else:
            self.events.append(event)
        self.changed.set()

    def named(self, *names: str) -> list[Event]:
        return [event for event in self.events if event.name in names]

    @property
    def spans(self) -> list[str]:
        """The spans and updates that came, as ids."""
        return [event.data["span_id"] for event in self.named("span", "update")]

    async def until(self, holds: Callable[[Tail], Any], seconds: float = 10) -> None:
        async with asyncio.timeout(seconds):
            while not holds(self):
                self.changed.clear()
                await self.changed.wait()


async def sse_events(lines: AsyncIterator[str]) -> AsyncIterator[Event]:
    """Read Server-Sent Events, as the standard says."""
    fields: dict[str, str] = {}
    async for line in lines:
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        elif "data" in fields:
            yield Event(fields.get("event", "message"), json.loads(fields["data"]), fields.get("id", ""))
            fields = {}


@asynccontextmanager
async def tail(http: httpx.AsyncClient, headers: dict[str, str], **params: Any) -> AsyncIterator[Tail]:
    """Open a stream and collect its events; it is open once the first heartbeat has come."""
    found = Tail()
    async with http.stream("GET", LIVE, headers=headers, params=params) as answer:
        assert answer.status_code == 200, await answer.aread()

        async def collect() -> None:
            try:
                async for event in sse_events(answer.aiter_lines()):
                    found.add(event)
            except httpx.HTTPError:
                pass
            finally:
                found.add(None)

        task = asyncio.create_task(collect())
        try:
            await found.until(lambda tail: tail.events)
            yield found
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def store_live(services: Services, project: str, *spans: Any) -> None:
    """Store ``spans`` in one transaction, as the receiver does: the process tells the others."""
    dimensions = Dimensions(services.writes, most_combinations=20_000)
    await SpanWriter(services.writes, dimensions, services.freshness).store(
        [prepare_span(project, span) for span in spans]
    )


@pytest.fixture
async def alpha(project: Any, bearer: Any) -> dict[str, str]:
    """Headers of a developer of alpha; there is a project beta, too."""
    await project("alpha")
    await project("beta")
    return bearer("developer", ["alpha"])  # type: ignore[no-any-return]
