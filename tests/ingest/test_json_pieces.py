"""Large JSON bodies are read piece by piece, to the same result, and refused by their outline."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import orjson
import pytest

from server.ingest.otlp import json_pieces
from server.ingest.otlp.decode import decode_logs, decode_traces
from server.ingest.otlp.json_pieces import Path, load, loaded
from server.ingest.otlp.metrics_format import decode_metrics
from server.ingest.otlp.payload import DecodeLimits, TooLarge, Unreadable
from tests.hostile.bodies import field, grouped
from tests.ingest.spans_in_both_encodings import JSON, PROTOBUF

PATH = Path("resourceSpans", "scopeSpans", "spans")
LIMITS = DecodeLimits()
TEXTS = ('"', "\\", '\\"', "{", "}]", '{"a":[', "\\\\\\", ",", "ü", "\u2028", "]}" * 9, "", "x" * 50)


def test_what_is_read_in_pieces_is_what_is_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """With pieces of a few bytes, so that every cut is made somewhere."""
    dice = random.Random(7)

    def value(depth: int) -> Any:
        kinds: tuple[Callable[[], Any], ...] = (
            lambda: "".join(dice.choices(TEXTS, k=3)),
            lambda: dice.choice((None, True, 1, -2.5, 2**63)),
            lambda: [value(depth - 1) for _ in range(dice.randrange(4))] if depth else [],
            lambda: {dice.choice(TEXTS): value(depth - 1) for _ in range(dice.randrange(4))} if depth else {},
        )
        return dice.choice(kinds)()

    def item() -> Any:
        return dice.choice((lambda: {"name": value(2), "x": value(4)}, lambda: value(2)))()

    def listed(name: str, inner: Callable[[], Any]) -> Any:
        found = [inner() for _ in range(dice.randrange(4))]
        odd: Any = dice.choice(({"a": value(4)}, "text", None, {"b": {}}))
        return {name: dice.choice((found, found, found, value(0))), dice.choice(("resource", "y")): odd}

    monkeypatch.setattr(json_pieces, "QUICK_BYTES", 0)
    for size in (0, 1, 40, 400):
        monkeypatch.setattr(json_pieces, "SMALL_BYTES", size)
        for _ in range(300):
            document = listed("resourceSpans", lambda: listed("scopeSpans", lambda: listed("spans", item)))
            for body in (orjson.dumps(document), json.dumps(document, indent=1).encode()):
                assert known(load(body, PATH, LIMITS)) == known(orjson.loads(body))


@pytest.mark.parametrize(("unit", "is_quick"), [(b'"some text of a span",', True), (b"{},", False), (b"[[]],", False)])
def test_a_middling_body_is_parsed_at_once_only_if_few_values_are_in_it(
    monkeypatch: pytest.MonkeyPatch, unit: bytes, *, is_quick: bool
) -> None:
    body = b'{"resourceSpans":[' + unit * (500_000 // len(unit)) + b"null]}"
    outlines: list[int] = []
    real = json_pieces._Outline.__init__

    def noted(self: Any, body: bytes, most: int) -> None:
        outlines.append(len(body))
        real(self, body, most)

    monkeypatch.setattr(json_pieces._Outline, "__init__", noted)
    try:
        load(body, PATH, LIMITS)
    except TooLarge:
        assert not is_quick
    assert bool(outlines) is not is_quick


def known(document: Any, names: Sequence[str] = ("resourceSpans", "scopeSpans", "spans")) -> Any:
    """Return what a decoder reads of a document: the lists on the path, and objects that are in no list."""
    if not names or not isinstance(document, dict):
        return document
    inner = document.get(names[0])
    read = [known(item, names[1:]) for item in inner] if isinstance(inner, list) else inner
    return {names[0]: read, **{name: document.get(name) for name in ("resource", "scope") if name not in names}}


def test_a_body_that_is_broken_anywhere_is_refused_in_pieces_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_pieces, "SMALL_BYTES", 10)
    monkeypatch.setattr(json_pieces, "QUICK_BYTES", 0)
    span = {"name": 'a"{', "attributes": [{"key": "k", "value": {"stringValue": "\\"}}]}
    body = orjson.dumps({"resourceSpans": [{"resource": {}, "scopeSpans": [{"spans": [span, span]}]}] * 2})
    for place in range(len(body)):
        for byte in b'{}[]",:\\ x':
            changed = body[:place] + bytes([byte]) + body[place + 1 :]
            whole, pieces = _outcome(lambda: loaded(changed)), _outcome(lambda: load(changed, PATH, LIMITS))  # noqa: B023
            assert pieces == whole, changed


def _outcome(read: Callable[[], Any]) -> Any:
    try:
        return known(read())
    except Unreadable:
        return Unreadable


def _document(name: str, inner: bytes) -> bytes:
    """Return a request with this list at its end."""
    names = {
        "traces": (b"resourceSpans", b"scopeSpans", b"spans"),
        "logs": (b"resourceLogs", b"scopeLogs", b"logRecords"),
        "metrics": (b"resourceMetrics", b"scopeMetrics", b"metrics"),
    }[name]
    return b'{"%b":[{"%b":[{"%b":[' % names + inner + b"]}]}]}"


def _json_floods(name: str) -> list[bytes]:
    first = {"traces": b"resourceSpans", "logs": b"resourceLogs", "metrics": b"resourceMetrics"}[name]
    fields = b'{"attributes":[' + b"{}," * 660_000 + b"{}]}"
    return [
        b'{"%b":[' % first + b"{}," * 660_000 + b"{}]}",
        b'{"%b":[' % first + b'{"a":1},' * 660_000 + b"{}]}",
        b'{"%b":[{"%b":[' % (first, first.replace(b"resource", b"scope")) + b"{}," * 660_000 + b"{}]}]}",
        _document(name, b"{}," * 660_000 + b"{}"),
        _document(name, fields),
        b'{"a":[' + b"{}," * 660_000 + b"{}]}",
        b'{"%b":[{"resource":{"attributes":[' % first + b"1," * 2_000_000 + b"1]}}]}",
    ]


def _protobuf_floods() -> list[bytes]:
    empty = 2_000_000
    return [
        field(1, b"") * empty,
        field(1, field(2, b"") * empty),
        field(1, field(2, field(2, b"") * empty)),
        grouped(field(9, b"") * empty),
        grouped(field(9, field(2, field(5, field(1, b"") * 60)) * 8) * 5_000),
        grouped(field(7, field(1, b"") * empty)),
        grouped(field(5, field(1, b"") * empty)),
    ]


DECODERS: dict[str, Callable[..., Any]] = {"traces": decode_traces, "logs": decode_logs, "metrics": decode_metrics}


@pytest.mark.parametrize("name", DECODERS)
def test_floods_of_empty_parts_are_refused_before_they_are_built(name: str) -> None:
    """In seconds of a processor: they took up to eleven, in calls that let nothing else run for a tenth of one."""
    floods = [(JSON, body) for body in _json_floods(name)] + [(PROTOBUF, body) for body in _protobuf_floods()]
    for content_type, body in floods:
        began, is_refused = time.thread_time(), False
        try:
            DECODERS[name](body, content_type, None, LIMITS)
        except TooLarge:
            is_refused = True
        assert time.thread_time() - began < 1, (content_type, body[:60])
        assert is_refused or content_type == PROTOBUF, body[:60]


def test_no_call_of_the_parser_reads_more_than_some_small_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call keeps the interpreter: of eight megabytes, for a tenth of a second and more."""
    longest = 0

    def watched(text: bytes) -> Any:
        nonlocal longest
        longest = max(longest, len(text))
        return loaded(text)

    monkeypatch.setattr(json_pieces, "loaded", watched)
    pair = {"key": "k", "value": {"stringValue": 'a "text" with {brackets}, and \\ more'}}
    span = {"traceId": "1" * 32, "spanId": "2" * 16, "name": "s", "attributes": [pair] * 13}
    resource = {"attributes": [pair] * 5}
    apart = {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span]}]}] * 5_000}
    together = {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span] * 5_000}]}]}
    for document in (apart, together):
        body = orjson.dumps(document)
        assert len(body) > 5 << 20
        assert decode_traces(body, JSON).span_count == 5_000
    assert 128 * 1024 < longest < 512 * 1024
    longest = 0
    with pytest.raises(TooLarge):
        decode_traces(b'{"resourceSpans":[' + b"{}," * 660_000 + b"{}]}", JSON)
    assert longest == 0


def test_bytes_beyond_ascii_are_unreadable() -> None:
    body = _document("traces", b'{"attributes":[{"key":"k","value":{"bytesValue":"\xc3\xbc"}}]}')
    with pytest.raises(Unreadable):
        decode_traces(body, JSON)
