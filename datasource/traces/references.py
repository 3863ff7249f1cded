"""References between the spans of one trace in a form that trace views can draw: with a root and without cycles.

Senders reuse span ids, name a descendant as parent, or lose the root. The views of Grafana and Jaeger follow references
until they end, so they must end: :func:`drawable` removes the references that would lead back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from server.queries.lists.span_tree import Placement, SpanNode, arrange

Row = Mapping[str, Any]


def drawable(rows: Sequence[Row]) -> list[Row]:
    """Return the spans of one trace, with references that contain no cycle.

    The earliest span of a cycle of parents, and the first span of a trace whose root is missing, become roots. A link
    within the trace is kept if it points to a span that the tree shows earlier.
    """
    placed = arrange([SpanNode(row["span_id"], row.get("parent_span_id"), row["ts"]) for row in rows])
    position: dict[str, int] = {}
    for place in placed:
        position.setdefault(place.node.span_id, len(position))
    roots = {place.node.span_id for place in placed if place.placement is Placement.CYCLE}
    if not roots and placed and not any(place.placement is Placement.ROOT for place in placed):
        roots.add(placed[0].node.span_id)
    return [_without_cycles(row, roots, position) for row in rows]


def _without_cycles(row: Row, roots: set[str], position: Mapping[str, int]) -> Row:
    span_id, links = row["span_id"], row.get("links") or ()
    kept = [link for link in links if not _leads_back(link, row, position)]
    parent = None if span_id in roots else row.get("parent_span_id")
    if parent == row.get("parent_span_id") and len(kept) == len(links):
        return row
    return {**row, "parent_span_id": parent, "links": kept}


def _leads_back(link: Mapping[str, Any], row: Row, position: Mapping[str, int]) -> bool:
    if link.get("trace_id") != row["trace_id"]:
        return False
    target = position.get(str(link.get("span_id")))
    return target is not None and target >= position[row["span_id"]]
