"""Sends what Grafana sends: recorded bodies, with our targets and the test's time range in them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.datasource.seed import Seed

FIXTURES = Path(__file__).parent.parent / "fixtures" / "grafana"

# The recordings of the JSON data source; the folder holds those of Jaeger and Tempo too.
RECORDED = sorted(path.stem for path in FIXTURES.glob("*.json") if not path.stem.startswith(("jaeger", "tempo")))

# Targets of the recording, and ours that take their place.
TARGETS = {"ts": "timeseries", "wire": "histogram", "tbl": "spans", "trace": "trace", "anno": "annotations.errors"}


def recording(name: str) -> dict[str, Any]:
    """Return a recorded request: method, path, headers, body."""
    document: dict[str, Any] = json.loads((FIXTURES / f"{name}.json").read_text())
    return document


def adapted(name: str, seed: Seed) -> dict[str, Any]:
    """Return the recorded body of ``name`` for our targets and the seed's range; strict targets keep the keys we
    declare.
    """
    body: dict[str, Any] = json.loads(json.dumps(recording(name)["body"]))
    for key in ("range", "timeRange"):
        if key in body:
            body[key] = seed.range()
    for target in body.get("targets", []):
        target["target"] = TARGETS[target["target"]]
        if target.get("strict"):
            target["payload"] = {key: value for key, value in target["payload"].items() if key in ("model", "user")}
        # The recording splits by two variables, of which the second held the name of a user.
        if "group_by" in target["payload"]:
            target["payload"] = {"group_by": ["model", ""], **{k: target["payload"][k] for k in ("limit", "model")}}
    if "metric" in body:
        body["metric"] = TARGETS[body["metric"]]
    return body


def with_unknown_keys(value: Any) -> Any:
    """Return ``value`` with keys that no Grafana of today sends, at every level but the author's own payload."""
    if isinstance(value, dict):
        kept = {key: item if key == "payload" else with_unknown_keys(item) for key, item in value.items()}
        return {**kept, "futureKey": {"nested": [1, None, "x"]}}
    if isinstance(value, list):
        return [with_unknown_keys(item) for item in value]
    return value


def query_body(seed: Seed, *targets: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a ``/query`` body in the form of the recordings."""
    base = recording("query-absolute-range-utc")["body"]
    filled = [
        {"refId": chr(65 + number), "editorMode": "code", "strict": True, "payload": {}, **target}
        for number, target in enumerate(targets)
    ]
    return {**base, "range": seed.range(), "targets": filled, "intervalMs": 60000, "maxDataPoints": 400, **more}


def columns_of(frame: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
    """Name and type of each column of a table or frame."""
    if "schema" in frame:
        yield from ((item["name"], item.get("type")) for item in frame["schema"]["fields"])
    elif frame.get("type") == "table":
        yield from ((item["text"], item.get("type")) for item in frame["columns"])


def is_empty(frame: dict[str, Any]) -> bool:
    """Return whether a frame holds no row or point."""
    if "schema" in frame:
        return not any(frame["data"]["values"])
    return not (frame["rows"] if frame.get("type") == "table" else frame["datapoints"])


@dataclass
class Grafana:
    """A data source whose credential reads one project."""

    http: httpx.AsyncClient
    headers: dict[str, str]
    seed: Seed

    async def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.http.post(
            path, content=content, headers={**self.headers, "Content-Type": "application/json", **headers}
        )

    async def query(self, *targets: dict[str, Any], **more: Any) -> httpx.Response:
        return await self.post("/grafana/query", query_body(self.seed, *targets, **more))


def points(answer: httpx.Response) -> int:
    """Return the sum of all points of a series answer."""
    return sum(value or 0 for frame in answer.json() for value, _ in frame["datapoints"])
