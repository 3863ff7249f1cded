"""Asks our Prometheus API as a client would."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx


@dataclass(frozen=True)
class PrometheusClient:
    """The API with one credential."""

    http: httpx.AsyncClient
    headers: dict[str, str]

    async def get(self, path: str, params: Any = None) -> httpx.Response:
        """Send a GET below ``/prometheus/api/v1``."""
        return await self.http.get(f"/prometheus/api/v1/{path}", params=params, headers=self.headers)

    async def post(self, path: str, form: Any) -> httpx.Response:
        """Send the same as a POST with a form."""
        return await self.http.post(f"/prometheus/api/v1/{path}", data=form, headers=self.headers)

    async def data(self, path: str, params: Any = None) -> Any:
        """Return the data of a successful answer."""
        answer = await self.get(path, params)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert body["status"] == "success"
        return body["data"]

    async def instant(self, query: str, time: float) -> dict[str, float]:
        """Return the values of an instant vector, by the values of its labels joined by slashes."""
        found = await self.data("query", {"query": query, "time": time})
        assert found["resultType"] == "vector"
        return {"/".join(row["metric"].values()): float(row["value"][1]) for row in found["result"]}

    async def over(self, query: str, start: float, end: float, step: float) -> dict[str, dict[float, float]]:
        """Return the values of a range by labels and time."""
        found = await self.data("query_range", {"query": query, "start": start, "end": end, "step": step})
        return {
            "/".join(row["metric"].values()): {time: float(value) for time, value in row["values"]}
            for row in found["result"]
        }

    async def error(self, path: str, params: Any = None) -> tuple[int, str, str]:
        """Return the status, errorType and text of a refusal."""
        is_long = len(str(params)) > 4000  # more than the head of a request takes
        answer = await (self.post(path, params) if is_long else self.get(path, params))
        body = answer.json()
        assert body["status"] == "error", body
        return answer.status_code, body["errorType"], body["error"]
