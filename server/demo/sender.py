"""Sends demo traces to the server as any application would: POST /v1/traces, OTLP protobuf."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import httpx

from server.demo.demo_span import DemoTrace
from server.demo.otlp_export import encode
from server.demo.schedule import Schedule

TRACES_A_REQUEST: Final = 80
CONNECTIONS: Final = 3
ATTEMPTS: Final = 6
# What OTLP says may be tried again.
RETRYABLE: Final = frozenset({429, 502, 503, 504})
# Days this recent are always sent again: part of them may have been missing the last time.
UNSETTLED_DAYS: Final = 2


class DemoError(Exception):
    """The demo traces could not be sent."""


class Stopped(Exception):
    """The demo is being ended."""


class Sender:
    """A client of the server with a credential that is renewed by itself."""

    def __init__(self, base_url: str, new_token: Callable[[], str], stopping: threading.Event) -> None:
        self._new_token = new_token
        self._stopping = stopping
        self._http = httpx.Client(base_url=base_url, timeout=60, trust_env=False)

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def send(self, traces: Sequence[DemoTrace]) -> int:
        """Stores traces and gives the number of spans.

        :raises DemoError: the server refuses them or stays away.
        :raises Stopped: the demo is being ended.
        """
        if not traces:
            return 0
        body = encode(traces)
        for attempt in range(ATTEMPTS):
            if self._stopping.is_set():
                raise Stopped
            try:
                answer = self._http.post(
                    "/v1/traces", content=body, headers=self._headers({"Content-Type": "application/x-protobuf"})
                )
            except httpx.TransportError as failure:
                reason, pause = str(failure), 1.0
            else:
                if answer.status_code == httpx.codes.OK:
                    return sum(len(trace.spans) for trace in traces)
                reason = f"{answer.status_code} {answer.text[:200]}"
                if answer.status_code not in RETRYABLE:
                    break
                pause = float(answer.headers.get("Retry-After", "1"))
            self._stopping.wait(min(pause, 10.0) * (attempt + 1) / 2)
        raise DemoError(f"the demo's traces were not taken: {reason}")

    def is_stored(self, trace: DemoTrace) -> bool:
        """Whether the server has a trace."""
        answer = self._http.get(f"/api/v1/traces/{trace.trace_id}", headers=self._headers({}))
        return answer.status_code == httpx.codes.OK

    def _headers(self, more: dict[str, str]) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._new_token()}", **more}


def fill(sender: Sender, schedule: Schedule, on_spans: Callable[[int], None]) -> int:
    """Sends all days that are not stored yet; gives the number of spans sent.

    Spans are the same at each start, so that sending them twice changes nothing. The first trace of a day is sent
    after all others of it: where it is stored, the day is whole and is skipped.
    """
    total = 0
    settled = schedule.dates()[-UNSETTLED_DAYS]
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        for day in schedule.dates():
            first = schedule.visit_traces(day, 0)
            if day < settled and first and sender.is_stored(first[0]):
                continue
            traces = list(schedule.day_traces(day))
            mark, rest = traces[: len(first)], traces[len(first) :]
            requests = [rest[at : at + TRACES_A_REQUEST] for at in range(0, len(rest), TRACES_A_REQUEST)]
            for spans in pool.map(sender.send, requests):
                total += spans
                on_spans(spans)
            spans = sender.send(mark)
            total += spans
            on_spans(spans)
    return total
