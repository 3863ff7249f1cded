"""Bits of a trace's summary: what its spans can lend to the calls below them, and what those calls lack; whether one of
its tools may be told by a span below another tool; and how many scopes tell of its agents and tools.

A trace that comes in pieces is read again only if one of its calls may lack what another of its spans has. Bits are
only ever added: they may say too much, never too little.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import orjson

from server.ingest.counting.call_identity import LENT_BELOW
from server.ingest.counting.count_rules import TOOL, TOOL_RULES
from server.ingest.mapping.call_links import TELLERS
from server.ingest.writing.prepared_span import COLUMNS, PreparedSpan

PART_BITS: Final[Mapping[str, int]] = {part: 1 << place for place, part in enumerate(LENT_BELOW)}
"""Each part has a column of its own name."""

_TOOL_BIT: Final = 1 << len(LENT_BELOW)
_TELLER_BIT: Final = _TOOL_BIT << 1
_ALL_TELLERS: Final = ((1 << TELLERS) - 1) * _TELLER_BIT
NO_PARTS: Final = "[]"

_PLACES: Final = tuple((COLUMNS.index(part), bit) for part, bit in PART_BITS.items())
_ALL: Final = sum(PART_BITS.values())
_COUNTS, _PARENT, _INHERITED = map(COLUMNS.index, ("is_generation", "parent_span_id", "inherited"))
_OPERATION, _RULE = map(COLUMNS.index, ("operation_type", "count_rule"))


def parts_of_traces(spans: Iterable[PreparedSpan]) -> str:
    """Return JSON, ``[trace, parts that spans have, parts that calls below another span lack]`` for each trace with
    any.
    """
    lends: dict[str, int] = {}
    lacks: dict[str, int] = {}
    for span in spans:
        values, trace_id, parts = span.values, span.key[1], 0
        for place, bit in _PLACES:
            if values[place]:
                parts |= bit
        is_mcp = values[_RULE] in TOOL_RULES
        lent = parts | _TOOL_BIT if is_mcp or values[_OPERATION] == TOOL else parts
        if span.teller is not None:
            lent |= _TELLER_BIT << span.teller
            if values[_PARENT] is not None:
                lacks[trace_id] = lacks.get(trace_id, 0) | (_ALL_TELLERS ^ (_TELLER_BIT << span.teller))
        if lent:
            lends[trace_id] = lends.get(trace_id, 0) | lent
        if is_mcp and values[_PARENT] is not None:
            lacks[trace_id] = lacks.get(trace_id, 0) | _TOOL_BIT
        if values[_COUNTS] and values[_PARENT] is not None:
            # A value that was lent may be replaced by that of a nearer span.
            lacks[trace_id] = lacks.get(trace_id, 0) | (_ALL if values[_INHERITED] is not None else _ALL ^ parts)
    return orjson.dumps(
        [[trace_id, lends.get(trace_id, 0), lacks.get(trace_id, 0)] for trace_id in {**lends, **lacks}]
    ).decode()
