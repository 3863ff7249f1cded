"""A caller who may not read content finds none on any surface that Grafana reaches, nor can ask whether it exists.

A person with Grafana's role Viewer is such a caller when ``GRAFANA_VIEWERS_SEE_CONTENT=false``
(tests/access/test_identity_provider.py shows that such a person loses ``content:read``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from datasource.panel_catalog import TARGETS
from server.access.principal import Role, role_scopes
from server.http.services import Services
from server.queries.filters.span_fields import FIELDS
from tests.datasource.grafana_client import Grafana
from tests.datasource.seed import ACME, Seed
from tests.span_factory import make_span, store

Bearer = Callable[..., dict[str, str]]

SECRET = "kestrelfalcon"
TRACE_ID = "ca" * 16
NOTED, FAILED = quote('{span.app.note=~".*"}'), quote('{statusMessage=~".*"}')

# Each asks about content, so that even an answer of "none" would tell something.
PROBES: tuple[dict[str, Any], ...] = (
    {"search": SECRET},
    {"where": {"field": "input_text", "operator": "contains", "value": SECRET}},
    {"where": {"field": "error_message", "operator": "contains", "value": SECRET}},
    {"where": {"field": "attribute.app.note", "operator": "eq", "value": SECRET}},
    {"where": {"not": {"field": "output_text", "operator": "contains", "value": SECRET}}},
)


@pytest.fixture
async def secret_trace(services: Services, seeded_history: Seed) -> Seed:
    """A failed call in the range that holds the secret wherever content can be."""
    said = [{"role": "user", "parts": [{"type": "text", "content": f"{SECRET} asked"}]}]
    span = make_span(
        ts=seeded_history.start + timedelta(minutes=30), trace_id=TRACE_ID, session_id="s-hidden", user_id="u-hidden",
        input_type="messages", input_text=f"{SECRET} asked", input_messages=said, output_text=f"{SECRET} said",
        output_messages=said, status_code="ERROR", error_type="timeout", error_message=f"{SECRET} failed",
        attributes={"app.note": SECRET}, total_cost_usd=Decimal("0.5"), total_tokens=7,
        events=[{"name": "exception", "ts": seeded_history.start.isoformat(), "attributes": {"message": SECRET}}],
    )  # fmt: skip
    assert await store(services, ACME, span) == 1
    return seeded_history


@pytest.fixture
def viewer(client: httpx.AsyncClient, bearer: Bearer, secret_trace: Seed) -> Grafana:
    """A viewer to whom no content is shown."""
    scopes = sorted(role_scopes(Role.VIEWER) - {"content:read"})
    return Grafana(client, bearer("viewer", [ACME], scopes=scopes), secret_trace)


@pytest.fixture
def editor(client: httpx.AsyncClient, bearer: Bearer, secret_trace: Seed) -> Grafana:
    return Grafana(client, bearer("viewer", [ACME]), secret_trace)


def payloads(name: str) -> Iterator[dict[str, Any]]:
    """Yield payloads for a target: the plain one, one for the trace, and by each dimension that holds content."""
    definition = TARGETS[name]
    if definition.field_named("trace_id"):
        yield {"trace_id": TRACE_ID}
    if definition.field_named("group_by"):
        yield {"group_by": "attribute.app.note"}
    if name != "trace":
        yield {"vars": "var-user=u-hidden"}


def gets(grafana: Grafana) -> list[str]:
    """Return the addresses of the other surfaces that show spans."""
    start, end = int(grafana.seed.start.timestamp()), int(grafana.seed.end.timestamp())
    window = f"start={start}&end={end}"
    micro = f"start={start * 1_000_000}&end={end * 1_000_000}"
    tagged = quote(json.dumps({"app.note": SECRET}))
    return [
        f"/jaeger/api/traces/{TRACE_ID}",
        f"/jaeger/api/traces?service=checkout&limit=200&{micro}",
        f"/jaeger/api/traces?service=checkout&tags={tagged}&{micro}",
        "/jaeger/api/services/checkout/operations",
        f"/tempo/api/traces/{TRACE_ID}",
        f"/tempo/api/v2/traces/{TRACE_ID}",
        f"/tempo/api/search?q={quote('{}')}&limit=200&spss=100&{window}",
        f"/tempo/api/search?q={NOTED}&limit=200&{window}",
        f"/tempo/api/search?q={FAILED}&limit=200&{window}",
        f"/tempo/api/v2/search/tag/span.app.note/values?{window}",
        f"/tempo/api/v2/search/tag/statusMessage/values?{window}",
        f"/api/v1/traces?user=u-hidden&from={start}",
        f"/api/v1/traces?view=traces&user=u-hidden&from={start}",
        f"/api/v1/traces/{TRACE_ID}",
        "/api/v1/sessions/s-hidden",
        f"/api/v1/facets/attribute.app.note?from={start}",
        f"/api/v1/facets/error_message?from={start}",
    ]


async def answers(grafana: Grafana) -> list[tuple[str, httpx.Response]]:
    """Return the answer of each surface."""
    found = []
    for name in TARGETS:
        for payload in payloads(name):
            answer = await grafana.query({"target": name, "payload": payload})
            found.append((f"{name} {payload}", answer))
    ends = {"range": grafana.seed.range(), "timeRange": grafana.seed.range()}
    for field in (*FIELDS, "attribute.app.note"):
        query = {"payload": {"field": field, "user": "u-hidden"}, **ends}
        found.append((f"variable {field}", await grafana.post("/grafana/variable", query)))
        found.append((f"tag values {field}", await grafana.post("/grafana/tag-values", {"key": field, **ends})))
    options = {"metric": "spans", "name": "user", "payload": {"search": SECRET}}
    found.append(("options", await grafana.post("/grafana/metric-payload-options", options)))
    paths = gets(grafana)
    found += [(path, await grafana.http.get(path, headers=grafana.headers)) for path in paths]
    return found


async def test_no_surface_shows_content_to_those_who_may_not_read_it(viewer: Grafana) -> None:
    for what, answer in await answers(viewer):
        assert answer.status_code < 500, (what, answer.text)
        if not ("app.note" in what and answer.status_code in (400, 403)):
            assert SECRET.encode() not in answer.content, (what, answer.text)


async def test_the_same_surfaces_do_show_it_to_the_others(editor: Grafana) -> None:
    shown = {
        what.split()[0].split("?")[0] for what, answer in await answers(editor) if SECRET.encode() in answer.content
    }
    assert {"errors", "logs", "trace", "messages", f"/jaeger/api/traces/{TRACE_ID}", f"/tempo/api/traces/{TRACE_ID}",
            "variable", "tag", f"/api/v1/traces/{TRACE_ID}"} <= shown  # fmt: skip


async def test_content_cannot_be_guessed_through_filters(viewer: Grafana) -> None:
    for name in ("timeseries", "stat", "breakdown", "spans", "traces", "errors", "xy", "node_graph", "flame_graph"):
        for probe in PROBES:
            answer = await viewer.query({"target": name, "payload": probe})
            is_unknown = not all(map(TARGETS[name].field_named, probe))
            assert answer.status_code == (400 if is_unknown else 403), (name, probe, answer.text)
    for key in ("input_text", "error_message", "attribute.app.note"):
        filters = [{"key": key, "operator": "=", "value": SECRET}]
        answer = await viewer.query({"target": "stat", "payload": {"metric": "calls"}}, filters=filters)
        assert answer.status_code == 403, (key, answer.text)
        narrowed = {"key": "user_id", "filters": filters, "timeRange": viewer.seed.range()}
        assert (await viewer.post("/grafana/tag-values", narrowed)).status_code == 403, key
        asked = {"payload": {"field": "user", "where": {"field": key, "operator": "eq", "value": SECRET}}}
        answer = await viewer.post("/grafana/variable", {**asked, "range": viewer.seed.range()})
        assert answer.status_code == 403, (key, answer.text)
