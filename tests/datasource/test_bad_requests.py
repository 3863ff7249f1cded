"""Requests that the data source refuses, with their messages, and requests that it only bounds."""

from __future__ import annotations

from typing import Any

from tests.datasource.grafana_client import Grafana, points
from tests.datasource.seed import TRACES


async def test_unknown_names_are_errors_that_help(grafana: Grafana) -> None:
    answer = await grafana.query({"target": "timeserie", "payload": {"metric": "calls"}})
    assert answer.status_code == 400
    message = "Unknown metric 'timeserie'; did you mean timeseries?"
    assert answer.json()["message"] == message
    assert answer.json()["error"] == {"code": "unknown_metric", "message": message}
    metric = await grafana.query({"target": "timeseries", "payload": {"metric": "cals"}})
    assert (metric.status_code, metric.json()["error"]["code"]) == (400, "unknown_metric")
    key = await grafana.query({"target": "timeseries", "payload": {"modle": "x"}})
    assert (key.status_code, key.json()["error"]["code"]) == (400, "unknown_parameter")
    assert "did you mean model" in key.json()["message"]
    kind = await grafana.query({"target": "timeseries", "type": "table2", "payload": {"metric": "calls"}})
    assert kind.status_code == 400
    not_replaced = await grafana.query({"target": "timeseries", "payload": {"model": "$model"}})
    assert "variable $model was not replaced" in not_replaced.json()["message"]
    loose = await grafana.query({"target": "timeseries", "strict": False, "payload": {"modle": "x"}})
    assert loose.json()[0]["meta"]["notices"][0]["severity"] == "warning"


IMPOSSIBLE: list[dict[str, Any]] = [
    {"range": {"from": "2026-11-23T10:00:00Z", "to": "2026-11-23T09:00:00Z"}},
    {"range": {"from": "2026-11-23T10:00:00Z", "to": "2026-11-23T10:00:00Z"}},
    {"range": None},
    {"range": {"from": "yesterday", "to": "now"}},
    {"range": {"from": "1970-01-01T00:00:00Z", "to": "2026-01-01T00:00:00Z"}},
    {"intervalMs": "x"},
    {"maxDataPoints": "NaN"},
    {"targets": "none"},
    {"filters": {"key": "model"}},
    {"filters": [{"key": "no_such_field", "operator": "=", "value": "x"}]},
    {"filters": [{"key": "project_id", "operator": "=", "value": "globex"}]},
    {"filters": [{"key": "model", "operator": "like", "value": "x"}]},
    {"filters": [{"key": "model", "operator": "=~", "value": "(a+)+$"}]},
    {"filters": [{"key": "model", "operator": "=", "value": ["a", "b"]}]},
    {"filters": [{"key": "duration_ms", "operator": ">", "value": "long"}]},
    {"timezone": "Mars/Olympus"},
]
UNUSUAL: list[dict[str, Any]] = [
    {"intervalMs": 0},
    {"intervalMs": -1},
    {"intervalMs": 1},
    {"maxDataPoints": 0},
    {"maxDataPoints": -1},
    {"maxDataPoints": 1e9, "intervalMs": 1},
    {"intervalMs": None, "maxDataPoints": None},
    *({name: value} for name in ("intervalMs", "maxDataPoints") for value in (1e18, 1e300, 10**30, "1e18", 1e-300)),
    {"intervalMs": 1e18, "maxDataPoints": 1e-300},
]


async def test_impossible_requests_are_400(grafana: Grafana) -> None:
    for change in IMPOSSIBLE:
        answer = await grafana.query({"target": "timeseries", "payload": {"metric": "calls"}}, **change)
        assert answer.status_code == 400, (change, answer.text)
        assert answer.json()["message"], change


async def test_points_are_bounded(grafana: Grafana) -> None:
    for change in UNUSUAL:
        answer = await grafana.query({"target": "timeseries", "payload": {"metric": "calls"}}, **change)
        assert answer.status_code == 200, (change, answer.text)
        assert len(answer.json()[0]["datapoints"]) <= 11_001
        assert len(answer.content) < 5_000_000
        assert points(answer) == TRACES


async def test_floods_of_targets_are_refused(grafana: Grafana) -> None:
    one = {"target": "timeseries", "payload": {"metric": "calls"}}
    many = await grafana.query(*({**one, "refId": f"R{number}"} for number in range(500)))
    assert many.status_code == 400
    twice = await grafana.query({**one, "refId": "A"}, {**one, "refId": "A"})
    assert twice.status_code == 400
    hidden = await grafana.query(*({**one, "refId": f"R{number}", "hide": True} for number in range(100)))
    assert hidden.json() == []


BROKEN = (b"{", b"[]", b'"x"', b"nul", b"\xff\xfe", b'{"targets":NaN}', b"[" * 100_000)


async def test_broken_bodies_are_400_in_the_form_grafana_shows(grafana: Grafana) -> None:
    for path in ("query", "variable", "tag-values", "metric-payload-options", "metrics"):
        for body in BROKEN:
            answer = await grafana.post(f"/grafana/{path}", body)
            assert answer.status_code == 400, (path, body[:20])
            assert answer.json()["error"]["code"] == "invalid_body"


async def test_errors_of_the_framework_are_json_too(grafana: Grafana) -> None:
    missing = await grafana.http.get("/grafana/nowhere", headers=grafana.headers)
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")
    method = await grafana.http.get("/grafana/query", headers=grafana.headers)
    assert method.status_code == 405
    large = await grafana.post("/grafana/query", b" " * 1_100_000)
    assert (large.status_code, large.json()["error"]["code"]) == (413, "payload_too_large")


async def test_one_failed_target_beside_others_is_a_notice(grafana: Grafana) -> None:
    answer = await grafana.query(
        {"target": "timeseries", "payload": {"metric": "nonsense"}},
        {"target": "timeseries", "payload": {"metric": "calls"}},
    )
    assert answer.status_code == 200
    first, last = answer.json()
    assert first["refId"] == "B"
    assert last["meta"]["notices"][0]["severity"] == "error"
    assert last["meta"]["notices"][0]["text"].startswith("Query A failed: unknown metric nonsense")
