"""Sender of demo traces; like any application it posts OTLP protobuf to /v1/traces."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any, Final

import httpx

from server.demo.demo_span import DemoTrace
from server.demo.otlp_export import encode
from server.demo.schedule import Schedule

TRACES_A_REQUEST: Final = 80
SCORES_A_REQUEST: Final = 500
CONNECTIONS: Final = 3
ATTEMPTS: Final = 6
# Statuses that OTLP allows to retry.
RETRYABLE: Final = frozenset({429, 502, 503, 504})
# Days this recent are always sent again: a part of them may have been missing at the last start.
UNSETTLED_DAYS: Final = 2


class DemoError(Exception):
    """The demo traces could not be sent."""


class Stopped(Exception):
    """The demo is stopping."""


class Sender:
    """A client of the server with a credential that is renewed by itself."""

    def __init__(self, base_url: str, new_token: Callable[[], str], stopping: threading.Event) -> None:
        self._new_token = new_token
        self._stopping = stopping
        self._http = httpx.Client(base_url=base_url, timeout=60, trust_env=False)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def send(self, traces: Sequence[DemoTrace]) -> int:
        """Store traces and their scores; return the number of spans.

        :raises DemoError: the server refuses them or stays unreachable.
        :raises Stopped: the demo is being ended.
        """
        if not traces:
            return 0
        self._post("/v1/traces", encode(traces), "application/x-protobuf")
        scores = [score for trace in traces for score in trace.scores]
        for at in range(0, len(scores), SCORES_A_REQUEST):
            body = json.dumps({"scores": scores[at : at + SCORES_A_REQUEST]}).encode()
            self._post("/api/v1/scores/batch", body, "application/json")
        return sum(len(trace.spans) for trace in traces)

    def _post(self, path: str, body: bytes, content_type: str) -> None:
        for attempt in range(ATTEMPTS):
            if self._stopping.is_set():
                raise Stopped
            try:
                answer = self._http.post(path, content=body, headers=self._headers({"Content-Type": content_type}))
            except httpx.TransportError as failure:
                reason, pause = str(failure), 1.0
            else:
                if answer.is_success:
                    return
                reason = f"{answer.status_code} {answer.text[:200]}"
                if answer.status_code not in RETRYABLE:
                    break
                pause = float(answer.headers.get("Retry-After", "1"))
            self._stopping.wait(min(pause, 10.0) * (attempt + 1) / 2)
        raise DemoError(f"the demo's traces were not taken: {reason}")

    def get(self, path: str, token: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the body of an answer. Raises DemoError if the server refuses or stays unreachable."""
        return self._call("GET", path, token, params=params)

    def put(self, path: str, body: Mapping[str, Any], token: str) -> dict[str, Any]:
        """Store ``body`` at ``path``. Raises DemoError if the server refuses or stays unreachable."""
        return self._call("PUT", path, token, json=body)

    def _call(self, method: str, path: str, token: str, **content: Any) -> dict[str, Any]:
        if self._stopping.is_set():
            raise Stopped
        try:
            answer = self._http.request(method, path, headers={"Authorization": f"Bearer {token}"}, **content)
        except httpx.TransportError as failure:
            raise DemoError(f"{method} {path} was not answered: {failure}") from failure
        if not answer.is_success:
            raise DemoError(f"{method} {path} was refused: {answer.status_code} {answer.text[:200]}")
        found: dict[str, Any] = answer.json()
        return found

    def is_stored(self, trace: DemoTrace) -> bool:
        """Return whether the server has a trace."""
        if self._stopping.is_set():
            raise Stopped
        try:
            answer = self._http.get(f"/api/v1/traces/{trace.trace_id}", headers=self._headers({}))
        except httpx.TransportError:
            return False
        return answer.status_code == httpx.codes.OK

    def _headers(self, more: dict[str, str]) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._new_token()}", **more}


def missing_days(sender: Sender, schedule: Schedule) -> list[date]:
    """Return the days that are not completely stored, oldest first; the last two are always among them.

    :raises Stopped: the demo is being ended.
    """
    settled = schedule.dates()[-UNSETTLED_DAYS]
    missing = []
    for day in schedule.dates():
        first = schedule.visit_traces(day, 0)
        if day >= settled or not first or not sender.is_stored(first[0]):
            missing.append(day)
    return missing


def fill(sender: Sender, schedule: Schedule, days: Sequence[date], on_spans: Callable[[int], None]) -> None:
    """Send the traces of ``days``.

    They are the same at each start, so sending them twice changes nothing. The first trace of a day is sent after all
    others of it: if it is stored, the day is complete.

    :raises DemoError: the server refuses them or stays unreachable.
    :raises Stopped: the demo is being ended.
    """
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        for day in days:
            traces = list(schedule.day_traces(day))
            first = len(schedule.visit_traces(day, 0))
            mark, rest = traces[:first], traces[first:]
            requests = [rest[at : at + TRACES_A_REQUEST] for at in range(0, len(rest), TRACES_A_REQUEST)]
            for spans in pool.map(sender.send, requests):
                on_spans(spans)
            on_spans(sender.send(mark))
