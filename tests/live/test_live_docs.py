"""docs/reference/live-tail.md lists events, reasons and numbers."""

from __future__ import annotations

import re
from pathlib import Path

from server.app import MAX_MESSAGE_BYTES
from server.http.file_stream import STALL_SECONDS
from server.live.live_event import EVENTS
from server.live.live_feed import HEARTBEAT_SECONDS, POLL_SECONDS
from server.live.live_stream import BUFFER_BYTES
from server.live.live_tail import DISTRUST_SECONDS, POLLING_SECONDS, RESUME_SECONDS, WATCH_SECONDS
from server.rest.live_request import LIVE_PARAMETERS
from server.rest.live_routes import CLOSE_CODES, STREAM_COST
from server.settings import Settings

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "live-tail.md").read_text(encoding="utf-8")


def test_the_page_has_each_event_with_its_sentence() -> None:
    rows = dict(re.findall(r"^\| `([a-z]+)` \| ([^|]+) \|$", PAGE, re.MULTILINE))
    assert rows == EVENTS


def test_the_page_has_each_close_code() -> None:
    found = {
        reason: int(code)
        for reasons, code in re.findall(r"^\| (`[^|]+) \| (\d{4}) \|", PAGE, re.MULTILINE)
        for reason in re.findall(r"`(\w+)`", reasons)
    }
    assert found.items() >= CLOSE_CODES.items()


def test_the_numbers_on_the_page_are_those_of_the_program() -> None:
    assert f"every {HEARTBEAT_SECONDS:.0f} seconds" in PAGE
    assert RESUME_SECONDS == 600
    assert "ten minutes" in PAGE
    assert f"at most {BUFFER_BYTES // 1024} KiB" in PAGE
    assert f"nothing for {STALL_SECONDS:.0f} seconds" in PAGE
    assert f"above {MAX_MESSAGE_BYTES // 1024} KiB" in PAGE
    assert f"{1 / POLL_SECONDS:.0f} times" in PAGE
    assert f"every {POLLING_SECONDS} seconds" in PAGE
    assert (WATCH_SECONDS, DISTRUST_SECONDS) == (2, 10)
    assert f"takes {STREAM_COST} tokens" in PAGE
    assert f"`OBSERVATORY_LIVE_STREAMS` ({Settings().live_streams})" in PAGE
    assert f"`OBSERVATORY_LIVE_STREAMS_TOTAL` ({Settings().live_streams_total})" in PAGE
    assert all(f"`{name}`" in PAGE for name in LIVE_PARAMETERS)
