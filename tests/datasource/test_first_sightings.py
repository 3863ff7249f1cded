"""The first time of a version is what the stored spans say, in whatever order they came."""

from __future__ import annotations

from datetime import timedelta

from server.http.services import Services
from server.queries.records.annotations import Sighting, list_sightings
from server.storage.row_scope import RowScope
from tests.datasource.seed import ACME, GLOBEX, TRACES, Seed, trace
from tests.span_factory import make_span, store


async def versions(services: Services, history: Seed, project: str = ACME) -> dict[str, Sighting]:
    """Return the versions of services by value, from a day before the history on."""
    found = await list_sightings(
        services.reads, RowScope((project,)), history.start - timedelta(days=1), history.end, ("service_version",)
    )
    return {f"{item.owner_name} {item.value}": item for item in found}


async def test_each_version_has_its_first_span(services: Services, seeded_history: Seed) -> None:
    found = await versions(services, seeded_history)
    assert set(found) == {"checkout 1.0.0", "search 1.0.0", "checkout 1.1.0", "search 1.1.0"}
    assert found["search 1.0.0"].first_ts == seeded_history.start
    assert found["search 1.1.0"].first_ts == seeded_history.start + timedelta(minutes=7.5 * TRACES / 2)
    assert await versions(services, seeded_history, GLOBEX) == {}


async def test_a_late_span_moves_the_first_sight_back_and_a_later_one_does_not(
    services: Services, seeded_history: Seed
) -> None:
    later = trace(TRACES - 2, seeded_history.end - timedelta(minutes=1))
    await store(services, ACME, later)
    before = (await versions(services, seeded_history))["search 1.1.0"].first_ts
    early = seeded_history.start - timedelta(hours=3)
    await store(services, ACME, make_span(ts=early, service_name="search", service_version="1.1.0"))
    after = (await versions(services, seeded_history))["search 1.1.0"].first_ts
    assert (before, after) == (seeded_history.start + timedelta(minutes=180), early)


async def test_names_beyond_measure_are_not_noted(services: Services, seeded_history: Seed) -> None:
    await store(services, ACME, make_span(ts=seeded_history.start, service_name="search", service_version="v" * 300))
    assert not any("vvv" in name for name in await versions(services, seeded_history))
