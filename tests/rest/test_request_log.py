"""The log and the metrics of finished requests: written once a turn of the event loop, and for each of them."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import time
from dataclasses import replace

import pytest

from server.telemetry import logs, observations
from server.telemetry.logs import LineHandler, RefusedLines, TextLines
from server.telemetry.observations import (
    CacheAsked,
    Observation,
    RequestFinished,
    RequestsFinished,
    observe_hit,
    observe_request,
)

FINISHED = RequestFinished("GET", "/api/v1/traces", 200, 0.004, "0123456789abcdef", "ann")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Observation]:
    """All that is told, with no other listener."""
    heard: list[Observation] = []
    monkeypatch.setattr(observations, "_sinks", [heard.append])
    monkeypatch.setattr(observations, "_receivers", {})
    return heard


async def test_requests_of_one_turn_are_told_of_together_and_before_the_next_is_read(told: list[Observation]) -> None:
    others = [replace(FINISHED, status=status) for status in (200, 404, 500)]
    for request in others:
        observe_request(request)
    assert told == []
    await asyncio.sleep(0)
    assert told == [RequestsFinished(tuple(others))]
    observe_request(FINISHED)
    await asyncio.sleep(0)
    assert told[1:] == [RequestsFinished((FINISHED,))]


async def test_answers_that_a_cache_had_are_counted_together(told: list[Observation]) -> None:
    for cache in ("results", "panels", "results"):
        observe_hit(cache)
    assert told == []
    await asyncio.sleep(0)
    assert told == [CacheAsked("results", "hit", 2), CacheAsked("panels", "hit")]


def test_without_a_loop_and_after_one_that_ended_in_between_nothing_is_held_back(told: list[Observation]) -> None:
    observe_request(FINISHED)
    assert told == [RequestsFinished((FINISHED,))]
    loop = asyncio.new_event_loop()
    loop.call_soon(observe_request, FINISHED)
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()  # its turn is over, but nothing was told any more
    asyncio.run(_finish_one())
    assert sum(len(item.requests) for item in told if isinstance(item, RequestsFinished)) == 3


async def _finish_one() -> None:
    observe_request(FINISHED)
    await asyncio.sleep(0)


def test_each_request_has_a_line_of_json_that_nothing_in_it_can_break() -> None:
    stream = io.StringIO()
    LineHandler(stream).write_requests(logging.INFO, [FINISHED, replace(FINISHED, subject='é\u2028"\n{')])
    lines = stream.getvalue().split("\n")
    assert len(lines) == 3
    assert lines[2] == ""
    assert all(line.isascii() for line in lines)
    first, second = (json.loads(line) for line in lines[:2])
    assert list(first) == [
        "ts", "level", "logger", "message", "method", "route", "status", "seconds", "request_id", "subject",
    ]  # fmt: skip
    assert (first["level"], first["message"], first["subject"]) == ("INFO", "request", "ann")
    assert second["subject"] == 'é\u2028"\n{'
    assert first["ts"][10] == "T"
    assert first["ts"].endswith("Z")
    assert len(first["ts"]) == len("2026-01-01T00:00:00.000Z")


def test_refused_requests_have_a_hundred_lines_a_minute_and_a_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_REPEAT_SECONDS", 0.2)
    lines = RefusedLines()
    unknown = replace(FINISHED, status=401, subject="")
    kinds = (unknown, replace(unknown, status=404), replace(FINISHED, status=429), replace(FINISHED, status=499))
    for refused in kinds:
        assert sum(lines.has_line(refused) for _ in range(5000)) == 100
    for ordinary in (FINISHED, replace(FINISHED, status=400), replace(FINISHED, subject="")):
        assert all(lines.has_line(ordinary) for _ in range(500)), "what known callers do, limits bound"
    assert lines.left_out() == []
    time.sleep(0.25)
    assert lines.has_line(unknown)
    assert lines.left_out() == [(refused.status, 4900) for refused in kinds]
    assert lines.left_out() == []


async def test_a_flood_leaves_few_lines(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="observatory"):
        for _ in range(1000):
            logs.log(RequestsFinished((replace(FINISHED, status=418, subject=""),)))
    # A line about refusals of another test may come first.
    assert [record.getMessage() for record in caplog.records].count("request") == 100


def test_a_line_for_people_has_the_fields_and_none_of_them_can_break_it() -> None:
    record = logging.makeLogRecord({"levelname": "WARNING", "name": "observatory", "msg": "credential refused"})
    vars(record).update(reason="signature", client_address="::1", cause="a\nWARNING c\u2028", suppressed=0)
    line = TextLines().format(record)
    assert line.endswith(
        'observatory: credential refused reason=signature client_address=::1 cause="a\\nWARNING c\\u2028" suppressed=0'
    )
    assert line.isprintable()
