"""The live tail at a terminal."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import httpx

from server.commands.api_client import Params, Server, refusal, unreachable
from server.terminal.output import CommandFailed, say

LIVE = "/api/v1/traces/live"
RECONNECT_SECONDS = 1.0
_COLOURS = {"ERROR": "\x1b[31m", "OK": "\x1b[32m", "UNSET": "\x1b[33m"}
_DIM, _END = "\x1b[2m", "\x1b[0m"
_FINAL = (400, 401, 403, 404)


def follow(server: Server, filters: Sequence[str], *, as_json: bool, most: int | None) -> None:
    """Print events as they arrive, at most ``most`` spans. A stream that breaks off continues after its last event.

    :raises CommandFailed: no server is there, it refuses the question, or it has ended the stream permanently.
    """
    params = server.params(filters)
    last_id, shown, was_open, is_lost = "", 0, False, False
    say(f"watching {server.project} at {server.base_url}: spans appear here as they are stored")
    with server.client() as client:
        while most is None or shown < most:
            try:
                for event in _events(client, params, last_id):
                    last_id = event["id"] or last_id
                    was_open, is_lost = True, False
                    if event["event"] in ("span", "update"):
                        _show(event, as_json=as_json)
                        shown += 1
                        if shown == most:
                            return
                    else:
                        _notice(event)
            except httpx.TransportError as error:
                if isinstance(error, httpx.ConnectError) and not was_open:
                    raise unreachable(client, error) from error
                if not is_lost:
                    say(f"connection lost ({error or type(error).__name__}), trying again")
                is_lost = True
            time.sleep(RECONNECT_SECONDS)


def _events(client: httpx.Client, params: Params, last_id: str) -> Iterator[dict[str, Any]]:
    headers = {"Last-Event-ID": last_id} if last_id else {}
    with client.stream("GET", LIVE, params=params, headers=headers) as answer:
        if answer.status_code != 200:
            answer.read()
            if answer.status_code in _FINAL:
                raise refusal(answer)
            raise httpx.ReadError(f"the server answered {answer.status_code}")
        fields: dict[str, str] = {}
        for line in answer.iter_lines():
            name, _, value = line.partition(":")
            if line:
                fields[name] = value.removeprefix(" ")
            elif "data" in fields:
                data = json.loads(fields["data"], parse_float=Decimal)
                yield {"event": fields["event"], "id": fields.get("id", ""), "data": data, "text": fields["data"]}
                fields = {}


def _show(event: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(f"{event['text']}\n")
    else:
        sys.stdout.write(f"{line_of(event['data'], event['event'], coloured=sys.stdout.isatty())}\n")
    sys.stdout.flush()


def line_of(row: dict[str, Any], kind: str, *, coloured: bool) -> str:
    """Return the line that shows a row of a list."""

    def cell(name: str, width: int) -> str:
        # Names come from telemetry, so control characters in them must not reach the terminal.
        text = "".join(c if c.isprintable() else "?" for c in str(row.get(name) or "-"))
        return text[: width - 1].ljust(width)

    duration, cost = row.get("duration_ms"), row.get("total_cost_usd")
    figures = (
        f"{'-' if duration is None else f'{duration:,.0f} ms':>10} "
        f"{row.get('total_tokens') or '-':>8} {'-' if cost is None else f'${cost:.6f}':>12}"
    )
    status = str(row.get("status_code") or "-")
    mark = "~" if kind == "update" else " "
    time_of_day = str(row.get("ts") or "-")[11:23]
    head, tail = f"{time_of_day}{mark}", f"{cell('model', 26)}{figures}  {cell('span_name', 30)}{cell('trace_id', 33)}"
    if not coloured:
        return f"{head} {status:6}{tail}".rstrip()
    return f"{_DIM}{head}{_END} {_COLOURS.get(status, '')}{status:6}{_END}{tail}".rstrip()


def _notice(event: dict[str, Any]) -> None:
    data = event["data"]
    if event["event"] == "gap":
        say(f"{'some' if data['count'] is None else data['count']} spans are missing ({data['reason']})")
    elif event["event"] == "goodbye" and data["retry_ms"] is None:
        raise CommandFailed(f"the server ended the stream: {data['reason']}")
