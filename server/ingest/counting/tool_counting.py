"""The decision which of the spans about one call of a tool is that call.

A tool that is called over MCP is told by several: the framework that runs it, the client's library, the SDK below it,
and the server, which has the trace context of the client. The outermost stays a tool, since it lasts as long as whoever
asked had to wait; the others are steps of it. Only spans that speak MCP, or are of a framework that is known to tell of
its tools beside an instrumentation, are ever left out: another tool below a tool is a call of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from server.ingest.counting.count_rules import NO_TOOL, SAME_TOOL_CALL, TOOL, TOOL_CALL, Decision, SpanView
from server.ingest.dialects.canonical_names import TRANSPARENT_OPERATIONS
from server.ingest.dialects.scope_traits import ScopeTraits
from server.ingest.otlp.payload import DecodedSpan

TOOL_NAME: Final = "mcp.tool.name"
"""The attribute that keeps the name of a tool where the row has none, because another span is the call."""

TOOL_TOLD: Final = "gen_ai.tool.name"
"""The same of a tool of which another instrumentation tells too."""

_METHOD, _CALL = "mcp.method.name", "tools/call"
_BETWEEN: Final = TRANSPARENT_OPERATIONS | {NO_TOOL}
_PREFIX_ENDS: Final = ("__", ".", "/", ":")
_PREFIX_ENDS_OF_PROXIES: Final = (*_PREFIX_ENDS, "_", "-")


def may_repeat_a_tool(span: DecodedSpan, traits: ScopeTraits) -> bool:
    """Return whether a span of a tool speaks MCP, as client or as server, or is of senders that tell of tools twice."""
    return traits.repeats_tools or span.attributes.get(_METHOD) == _CALL


def decide_tool_calls(by_id: Mapping[str, SpanView], tools: Sequence[SpanView]) -> dict[str, Decision]:
    """Decide for ``tools``, the spans of one trace that may repeat another."""
    outer = {span.span_id: _outer_report(span, by_id) for span in tools}
    decisions = {}
    for span in tools:
        top = _top(span.span_id, outer)
        decisions[span.span_id] = Decision(False, TOOL_CALL) if top is None else Decision(False, SAME_TOOL_CALL, top)
    return decisions


def _top(span_id: str, outer: Mapping[str, str | None]) -> str | None:
    """Return the outermost report, None for a span that is it, or that is above itself."""
    top, seen = outer[span_id], {span_id}
    while top is not None and top not in seen and outer.get(top) is not None:
        seen.add(top)
        top = outer[top]
    return None if top in seen else top


def _outer_report(span: SpanView, by_id: Mapping[str, SpanView]) -> str | None:
    """Return the tool above ``span``, with nothing but transport between, if it has the same name."""
    seen = {span.span_id}
    above = by_id.get(span.parent_span_id or "")
    while above is not None and above.span_id not in seen and above.operation in _BETWEEN:
        seen.add(above.span_id)
        above = by_id.get(above.parent_span_id or "")
    if above is None or above.operation != TOOL or above.span_id in seen or not _is_same_tool(above, span):
        return None
    return above.span_id


def _is_same_tool(outer: SpanView, inner: SpanView) -> bool:
    """Return whether both names may be one: that of the outer span may begin with that of the server."""
    one, other = (outer.tool_name or "").lower(), (inner.tool_name or "").lower()
    if not one or not other or one == other:
        return True
    ends = _PREFIX_ENDS_OF_PROXIES if outer.reports else _PREFIX_ENDS
    return one.endswith(tuple(end + other for end in ends))
