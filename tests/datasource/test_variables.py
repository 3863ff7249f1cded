"""Variables, menus of ad hoc filters, and the options of the query builder."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from datasource.json.builder_options import aggregations_of, describe_targets
from datasource.json.variables import parse_query_text, read_variable, resolve_field
from datasource.panel_catalog import TARGETS
from server.errors import InvalidParameter
from server.queries.filters.time_range import BoundedRange
from server.queries.metrics.metric_catalog import METRICS
from tests.datasource.seed import ACME, HOSTILE_USER, Seed

WINDOW = BoundedRange(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC))


@pytest.fixture
def ask(client: httpx.AsyncClient, bearer: Callable[..., dict[str, str]], seeded_history: Seed) -> Callable[..., Any]:
    """Posts a body to a path of the data source; returns the answer."""

    async def asking(path: str, **body: Any) -> Any:
        body.setdefault("range", seeded_history.range())
        answer = await client.post(f"/grafana/{path}", json=body, headers=bearer("viewer", [ACME]))
        assert answer.status_code == 200, answer.text
        return answer.json()

    return asking


async def test_values_of_a_field(ask: Callable[..., Any]) -> None:
    async def values(payload: Any) -> set[str]:
        options = await ask("variable", payload=payload)
        assert all(option["__text"] == option["__value"] for option in options)
        return {option["__value"] for option in options}

    everything = {"gpt-5", "gpt-4.1", "claude-opus-4"}
    assert await values({"field": "model"}) == everything
    assert await values({"target": "models"}) == everything
    assert await values({"field": "model", "provider": "var-provider=openai"}) == {"gpt-5", "gpt-4.1"}
    assert await values({"target": "model{provider=openai, search=5}"}) == {"gpt-5"}
    assert await values({"target": "model{provider=(openai|anthropic)}"}) == everything
    assert await values({"field": "model", "search": "opus"}) == {"claude-opus-4"}
    assert await values({"field": "model", "search": "${__searchFilter}"}) == everything
    assert await values({"field": "model", "model": "var-model=gpt-5"}) == everything
    assert await values({"field": "service", "user": ["user-0"]}) == {"checkout", "search"}
    assert HOSTILE_USER in await values({"field": "user"})
    assert await values({"field": "attribute.app.tier"}) == {"gold", "free"}
    assert await values({"field": "tags"}) == {"batch"}
    assert await values({"target": "projects"}) == {ACME}
    assert "duration" in await values({"target": "metrics"})
    assert "model" in await values({"target": "dimensions"})
    assert await values({"field": "model", "provider": "nobody"}) == set()
    assert await values("environment") == {"production", "staging"}


async def test_tag_keys_and_values_under_the_other_filters(ask: Callable[..., Any], seeded_history: Seed) -> None:
    keys = await ask("tag-keys", filters=[])
    assert {"text": "model", "value": "model", "group": "Span"} in keys
    assert not {"project_id", "attributes"} & {key["value"] for key in keys}
    other = {"key": "provider", "operator": "=", "value": "openai"}
    own = {"key": "model", "operator": "=", "value": "gpt-5"}
    values = await ask("tag-values", key="model", filters=[other, own], timeRange=seeded_history.range())
    assert {value["text"] for value in values} == {"gpt-5", "gpt-4.1"}
    assert {value["value"] for value in await ask("tag-values", key="status_code")} == {"OK", "ERROR"}


async def test_the_query_builder_gets_targets_fields_and_options(ask: Callable[..., Any]) -> None:
    listed = await ask("metrics", metric="timeseries", payload={"metric": "duration"})
    assert [entry["value"] for entry in listed] == list(TARGETS)
    fields = {item["name"]: item for item in listed[0]["payloads"]}
    assert fields["metric"]["reloadMetric"] is True
    assert {option["value"] for option in fields["metric"]["options"]} == set(METRICS)
    assert "p95" in {option["value"] for option in fields["aggregation"]["options"]}
    assert "options" not in fields["model"]
    narrowed = await ask(
        "metric-payload-options", metric="timeseries", name="model", payload={"provider": "openai", "limit": "10"}
    )
    assert {option["value"] for option in narrowed} == {"gpt-5", "gpt-4\u002e1"}
    # A variable without a value yet does not narrow.
    unknown = {"provider": "$provider", "model": ""}
    assert len(await ask("metric-payload-options", metric="timeseries", name="model", payload=unknown)) == 3
    assert await ask("metric-payload-options", metric="timeseries", name="limit") == []
    assert {entry["value"] for entry in await ask("search", target="annotations")} == {
        name for name in TARGETS if name.startswith("annotations.")
    }


async def test_legacy_annotations(ask: Callable[..., Any], seeded_history: Seed) -> None:
    named = {"name": "Releases", "query": "annotations.releases"}
    found = await ask("annotations", annotation=named, rangeRaw={"from": "now-6h", "to": "now"})
    assert "Deployment: checkout 1.1.0" in {item["title"] for item in found}
    assert all(item["annotation"] == named and isinstance(item["time"], int) for item in found)
    models = {"query": '{"target": "annotations.releases", "payload": {"kinds": "model"}}'}
    assert len(await ask("annotations", annotation=models)) == 3


@pytest.mark.parametrize("text", ["", "model{", "model{provider}", "a b c", "model{provider=x} trailing"])
def test_a_query_text_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter):
        read_variable({"target": text}, WINDOW)


def test_query_texts_are_taken_apart() -> None:
    assert parse_query_text("model") == ("model", {})
    text = 'model{provider=(a|b), service="x, y", search=gpt-4\\.1}'
    assert parse_query_text(text) == ("model", {"provider": "(a|b)", "service": "x, y", "search": "gpt-4\\.1"})


def test_fields_go_by_several_names() -> None:
    for name in ("service", "services", "service_name"):
        assert resolve_field(name) == "service_name"
    assert resolve_field("attribute.app.tier") == "attribute.app.tier"
    with pytest.raises(InvalidParameter, match="did you mean model"):
        resolve_field("modle")


def test_aggregations_follow_the_chosen_metric() -> None:
    assert aggregations_of({"metric": "calls"}) == ["sum"]
    assert "p95" in aggregations_of({"metric": ["duration"]})
    assert "p95" in aggregations_of({"metric": "$metric"})


def test_every_payload_field_is_described_once() -> None:
    for entry in describe_targets("", {}):
        names = [item["name"] for item in entry["payloads"]]
        assert len(set(names)) == len(names)
        assert {item["type"] for item in entry["payloads"]} <= {"input", "select", "multi-select", "textarea"}
