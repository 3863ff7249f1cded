"""Signs by which reports of one call are found in traces of their own.

The vendor's id of the answer is one. Where an instrumentation that does not make its span current leaves it out, and no
span is above, there is the moment at which the call ended. It is a sign only among senders of one group, which
``beside`` names in ``dialects/scopes.json``. A sign brings traces together; model, usage and time decide whether
their calls are one (:mod:`server.ingest.counting.call_counting`).
"""

from __future__ import annotations

from typing import Final
from zlib import crc32

from server.ingest.counting.count_rules import AGENT, NO_TOOL, TOLD_RULES
from server.ingest.counting.told_twice import ENTITIES
from server.ingest.dialects.canonical_names import GENERATION_OPERATIONS
from server.ingest.dialects.scope_traits import scope_traits
from server.ingest.mapping.span_record import SpanRecord
from server.text.instants import EPOCH

RESPONSE_ID: Final = "gen_ai.response.id"
SCOPE: Final = "otel.scope.name"

TELLERS: Final = 8
"""Scopes that tell of agents and tools are told apart by a number below this. Two of one number are not, which is of no
consequence in a trace with several calls, since that is read again for each of its pieces anyway.
"""

_MOMENT_US: Final = 50_000
_SLACK_US: Final = 5_000
"""Two senders end their spans of one call within this time."""
_MICROSECOND: Final = EPOCH.resolution
_ROOTS: Final = GENERATION_OPERATIONS | {AGENT, NO_TOOL, "workflow"}


def response_id_of(record: SpanRecord) -> str | None:
    """Return the vendor's id of the answer."""
    response_id = record.attributes.get(RESPONSE_ID)
    return response_id if isinstance(response_id, str) else None


def teller_of(record: SpanRecord) -> int | None:
    """Return the number of the scope that tells of an agent or a tool, None for another span."""
    if record.operation_type not in ENTITIES and record.count_rule not in TOLD_RULES:
        return None
    scope = record.attributes.get(SCOPE)
    return crc32(scope.encode()) % TELLERS if isinstance(scope, str) else None


def moments_of(record: SpanRecord) -> tuple[str, ...]:
    """Return the moments at which a root ended, if another sender may tell of it; two at the border of them. The root
    is a call, or the run that calls were made in.
    """
    if record.parent_span_id is not None or record.operation_type not in _ROOTS:
        return ()
    scope = record.attributes.get(SCOPE)
    group = scope_traits(scope).beside if scope.__class__ is str else None
    if group is None:
        return ()
    end_us = (record.ts - EPOCH) // _MICROSECOND + round(record.duration_ms * 1000)
    slots = sorted({(end_us - _SLACK_US) // _MOMENT_US, (end_us + _SLACK_US) // _MOMENT_US})
    return tuple(f"moment {group} {record.service_name} {slot}" for slot in slots)
