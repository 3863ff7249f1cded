"""Targets over call paths: callers and callees, and where time or money goes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from datasource.panels.frames import Column, FieldType, FrameMeta, Notice, wire_frame
from datasource.panels.target_question import TargetQuestion
from datasource.targets.core import Core, Frame
from server.fairness.off_loop import off_loop
from server.queries.filters.filter_tree import Filter, parse_filter
from server.queries.filters.time_range import TimeRange
from server.queries.lists.call_path_reader import CallPaths, CallSpan, read_call_paths
from server.queries.lists.list_question import ListQuestion, lift_to_traces
from server.queries.lists.span_tree import SpanNode, arrange

_NODE_COLUMNS: Final = (
    Column("id", FieldType.STRING),
    Column("title", FieldType.STRING),
    Column("subtitle", FieldType.STRING),
    # As text, because the panel writes the id of a number's unit after it ("161.00 short").
    Column("mainstat", FieldType.STRING, {"displayName": "Calls"}),
    Column("secondarystat", FieldType.STRING, {"displayName": "Cost"}),
    Column("arc__ok", FieldType.NUMBER, {"color": {"mode": "fixed", "fixedColor": "green"}, "displayName": "ok"}),
    Column("arc__error", FieldType.NUMBER, {"color": {"mode": "fixed", "fixedColor": "red"}, "displayName": "error"}),
    Column("detail__duration", FieldType.STRING, {"displayName": "Average duration"}),
    Column("detail__errors", FieldType.STRING, {"displayName": "Errors"}),
)
_EDGE_COLUMNS: Final = (
    Column("id", FieldType.STRING),
    Column("source", FieldType.STRING),
    Column("target", FieldType.STRING),
    Column("mainstat", FieldType.STRING, {"displayName": "Calls"}),
    Column("secondarystat", FieldType.STRING, {"displayName": "Average duration"}),
    Column("thickness", FieldType.NUMBER),
)
# The flame graph takes times in nanoseconds; it calls every other unit except bytes "samples".
_UNITS: Final = {"time": "ns", "cost": "short"}
_NS_PER_MS: Final = 1e6
_WIDEST_EDGE: Final = 8.0
MAX_FLAME_FRAMES: Final = 2000

Node = tuple[str, str]
"""Kind (agent, tool, model) and name."""


@dataclass(slots=True)
class _Sum:
    """Calls of one node or edge."""

    calls: int = 0
    errors: int = 0
    duration_ms: float = 0.0
    cost_usd: Decimal = Decimal(0)

    def add(self, span: CallSpan) -> None:
        self.calls += 1
        self.errors += span.is_error
        self.duration_ms += span.duration_ms
        self.cost_usd += span.cost_usd


@dataclass(slots=True)
class _Flame:
    """One frame of the flame graph: spans of one name on one path."""

    label: str
    own: float = 0.0
    total: float = 0.0
    children: dict[str, _Flame] = field(default_factory=dict)


_SPAN_WEIGHT: Final = 10


async def node_graph(core: Core, question: TargetQuestion) -> list[Frame]:
    """Return two frames, ``nodes`` and ``edges``; every edge has both its ends among the nodes."""
    paths = await _read(core, question)
    nodes, edges = await off_loop(len(paths.spans) * _SPAN_WEIGHT, lambda: _graph_of(paths.spans))
    meta = _meta(question, paths)
    meta.preferred_visualisation = "nodeGraph"
    return [
        wire_frame(question.ref_id, "nodes", _NODE_COLUMNS, (_node_row(*item) for item in nodes.items()), meta),
        wire_frame(
            question.ref_id,
            "edges",
            _EDGE_COLUMNS,
            _edge_rows(edges),
            FrameMeta(preferred_visualisation="nodeGraph"),
        ),
    ]


async def flame_graph(core: Core, question: TargetQuestion) -> list[Frame]:
    """Return one frame in depth-first order with a single root: label, level, value, self."""
    paths = await _read(core, question)
    kind = question.values["value"]
    rows = await off_loop(
        len(paths.spans) * _SPAN_WEIGHT, lambda: _flame_rows(_single_root(flames_of(paths.spans, kind)))
    )
    unit = {"unit": _UNITS[kind]}
    columns = [
        Column("level", FieldType.NUMBER),
        Column("value", FieldType.NUMBER, unit),
        Column("self", FieldType.NUMBER, unit),
        Column("label", FieldType.STRING),
    ]
    meta = _meta(question, paths)
    meta.preferred_visualisation = "flamegraph"
    if len(rows) > MAX_FLAME_FRAMES:
        meta.notices.append(Notice(f"The first {MAX_FLAME_FRAMES} of {len(rows)} frames.", "warning"))
    return [wire_frame(question.ref_id, "flame graph", columns, rows[:MAX_FLAME_FRAMES], meta)]


def node_of(span: CallSpan) -> Node | None:
    """Return the kind and name of a span's callee: a model, a tool or an agent; None for any other span."""
    if span.is_generation:
        return "model", span.model or "(unknown)"
    if span.tool_name:
        return "tool", span.tool_name
    if span.agent_name:
        return "agent", span.agent_name
    return None


def _graph_of(spans: Iterable[CallSpan]) -> tuple[dict[Node, _Sum], dict[tuple[Node, Node], _Sum]]:
    nodes: dict[Node, _Sum] = {}
    edges: dict[tuple[Node, Node], _Sum] = {}
    for caller, callee, span in calls_of(spans):
        nodes.setdefault(callee, _Sum()).add(span)
        if caller is not None:
            edges.setdefault((caller, callee), _Sum()).add(span)
    return nodes, edges


def calls_of(
    spans: Iterable[CallSpan],
) -> Iterator[tuple[Node | None, Node, CallSpan]]:
    """Yield (caller, callee, span) for each span that is a node; the caller is the nearest one above it."""
    for trace in _by_trace(spans):
        above: list[Node | None] = []
        for depth, span in _walk(trace):
            del above[depth:]
            node = node_of(span)
            caller = above[-1] if above else None
            # A step within an agent has the agent's name, too: it is the same node, not a call of itself.
            if node is not None and node != caller:
                yield caller, node, span
            above.append(node or caller)


def flames_of(spans: Iterable[CallSpan], kind: str) -> _Flame:
    """Merge all traces by the names on their paths.

    Time is a span's own time (its duration minus that of its children), so that children that ran side by side never
    exceed their parent. Money is that of model calls.
    """
    root = _Flame("all traces")
    for trace in _by_trace(spans):
        inside: dict[str, float] = {}
        for span in trace:
            if span.parent_span_id is not None:
                inside[span.parent_span_id] = inside.get(span.parent_span_id, 0.0) + span.duration_ms
        path = [root]
        for depth, span in _walk(trace):
            del path[depth + 1 :]
            node = path[-1].children.setdefault(span.span_name, _Flame(span.span_name))
            node.own += (
                float(span.cost_usd)
                if kind == "cost"
                else max(0.0, span.duration_ms - inside.get(span.span_id, 0.0)) * _NS_PER_MS
            )
            path.append(node)
    _add_up(root)
    return root


async def _read(core: Core, question: TargetQuestion) -> CallPaths:
    window: TimeRange = question.time_range
    tree: Filter | None = lift_to_traces(question.filter)
    trace_id = question.values["trace_id"]
    if trace_id is None and question.values["one_trace"]:
        return CallPaths(spans=[], traces=0, is_cut=False)
    if trace_id is not None:
        window = TimeRange()
        tree = lift_to_traces(parse_filter({"field": "trace_id", "operator": "eq", "value": trace_id}))
    asked = ListQuestion(view="traces", window=window, filter=tree, limit=question.values["limit"])
    return await read_call_paths(core.database, core.scope, asked)


def _by_trace(spans: Iterable[CallSpan]) -> Iterator[list[CallSpan]]:
    traces: dict[str, list[CallSpan]] = {}
    for span in spans:
        traces.setdefault(span.trace_id, []).append(span)
    yield from traces.values()


def _walk(trace: list[CallSpan]) -> Iterator[tuple[int, CallSpan]]:
    by_position = {(span.span_id, span.ts): span for span in trace}
    for placed in arrange([SpanNode(span.span_id, span.parent_span_id, span.ts) for span in by_position.values()]):
        yield placed.depth, by_position[placed.node.span_id, placed.node.ts]


def _node_row(node: Node, total: _Sum) -> list[Any]:
    kind, name = node
    failed = total.errors / total.calls
    return [
        _node_id(node), name, kind, call_count(total.calls), money_text(total.cost_usd), 1 - failed, failed,
        duration_text(total.duration_ms / total.calls), f"{total.errors:,}",
    ]  # fmt: skip


def _edge_rows(edges: Mapping[tuple[Node, Node], _Sum]) -> Iterator[list[Any]]:
    """Yield the edges; the more calls an edge has, the thicker it is."""
    most = max((total.calls for total in edges.values()), default=1)
    for ends, total in edges.items():
        source, target = (_node_id(node) for node in ends)
        thickness = 1 + (_WIDEST_EDGE - 1) * math.sqrt(total.calls / most)
        yield [
            f"{source} > {target}", source, target, call_count(total.calls),
            duration_text(total.duration_ms / total.calls), round(thickness, 1),
        ]  # fmt: skip


def call_count(calls: int) -> str:
    """Return ``1 call``, ``12,345 calls``."""
    return "1 call" if calls == 1 else f"{calls:,} calls"


def money_text(amount: Decimal | float) -> str:
    """Return US dollars with significant digits: ``$12.30``, ``$0.0041``, ``$0`` for nothing."""
    value = float(amount)
    if not value:
        return "$0"
    if value >= 1:
        return f"${value:,.2f}"
    return f"${value:.{1 - math.floor(math.log10(value))}f}"


def duration_text(milliseconds: float) -> str:
    """Return ``850 ms``, ``8.7 s``, ``2.5 min``."""
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def _node_id(node: Node) -> str:
    return f"{node[0]}:{node[1]}"


def _flame_rows(root: _Flame) -> list[list[Any]]:
    """Return the rows in depth-first order, wide frames first; without recursion, since depth has no bound."""
    rows: list[list[Any]] = []
    pending = [(root, 0)]
    while pending:
        current, depth = pending.pop()
        rows.append([depth, current.total, current.own, current.label])
        ordered = sorted(current.children.values(), key=lambda child: child.total)
        pending.extend((child, depth + 1) for child in ordered)
    return rows


def _single_root(root: _Flame) -> _Flame:
    """Return ``root``, or its only child, since one trace needs no frame above its own root."""
    children = list(root.children.values())
    return children[0] if len(children) == 1 and not root.own else root


def _add_up(root: _Flame) -> None:
    """Fill in ``total``, from the leaves to the root."""
    order = [root]
    for current in order:
        order.extend(current.children.values())
    for current in reversed(order):
        current.total = current.own + sum(child.total for child in current.children.values())


def _meta(question: TargetQuestion, paths: CallPaths) -> FrameMeta:
    meta = FrameMeta(notices=list(question.notices), stats={"Traces": paths.traces, "Spans": len(paths.spans)})
    if paths.is_cut:
        meta.notices.append(Notice(f"Computed from the newest {paths.traces} traces of the range.", "info"))
    return meta
