"""The content of the tables, and the content that they should have by the raw rows alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from server.text.instants import EPOCH

TABLES = ("llm_traces", "trace_summaries", "session_summaries", "user_summaries", "user_sessions", "rollup_delta")

SUMS = (
    "span_count", "generation_count", "error_count", "prompt_tokens", "completion_tokens", "total_tokens",
    "total_cost_usd",
)  # fmt: skip

Rows = list[dict[str, Any]]


async def everything(owner: asyncpg.Connection) -> dict[str, Rows]:
    """Return all rows of the tables that the writer keeps."""
    found = {}
    for table in TABLES:
        found[table] = [dict(row) for row in await owner.fetch(f"SELECT * FROM {table} ORDER BY 1, 2, 3")]
    return found


async def stored_summaries(owner: asyncpg.Connection) -> dict[str, dict[tuple[str, ...], dict[str, Any]]]:
    """Return the kept summaries by key, without the columns that say when and how they were kept."""
    result: dict[str, dict[tuple[str, ...], dict[str, Any]]] = {}
    for kind, key in (("trace", "trace_id"), ("session", "session_id"), ("user", "user_id")):
        rows = await owner.fetch(f"SELECT * FROM {kind}_summaries")
        result[kind] = {
            (row["project_id"], row[key]): {
                name: value
                for name, value in row.items()
                if name not in ("updated_at", "is_linked", "lends", "lacks") and not name.endswith("_rank")
            }
            for row in rows
        }
    return result


def recomputed_summaries(spans: Iterable[asyncpg.Record]) -> dict[str, dict[tuple[str, ...], dict[str, Any]]]:
    """Return the summaries that follow from the raw rows, by the rule of docs/reference/ingestion.md."""
    by_trace: dict[tuple[str, str], list[asyncpg.Record]] = defaultdict(list)
    for span in spans:
        by_trace[span["project_id"], span["trace_id"]].append(span)
    traces: dict[tuple[str, ...], dict[str, Any]] = {key: _trace(key, members) for key, members in by_trace.items()}
    return {
        "trace": traces,
        "session": _grouped(traces.values(), "session_id"),
        "user": _grouped(traces.values(), "user_id"),
    }


def _trace(key: tuple[str, str], members: list[asyncpg.Record]) -> dict[str, Any]:
    ordered = sorted(members, key=lambda span: (span["parent_span_id"] is not None, span["ts"], span["span_id"]))
    root = next((span for span in ordered if span["parent_span_id"] is None), None)
    calls = [span for span in members if span["is_generation"]]
    return {
        "project_id": key[0],
        "trace_id": key[1],
        "start_ts": min(span["ts"] for span in members),
        "end_ts": max(_end(span) for span in members),
        "root_span_id": root and root["span_id"],
        "root_span_name": ordered[0]["span_name"],
        "service_name": ordered[0]["service_name"],
        "environment": ordered[0]["environment"],
        "session_id": next((span["session_id"] for span in ordered if span["session_id"] is not None), None),
        "user_id": next((span["user_id"] for span in ordered if span["user_id"] is not None), None),
        "span_count": len(members),
        "generation_count": len(calls),
        "error_count": sum(span["status_code"] == "ERROR" for span in members),
        **{name: sum(span[name] or 0 for span in calls) for name in SUMS[3:]},
    }


def _end(span: asyncpg.Record) -> datetime:
    return EPOCH + timedelta(microseconds=span["version"])


def _grouped(traces: Iterable[dict[str, Any]], name: str) -> dict[tuple[str, ...], dict[str, Any]]:
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for trace in traces:
        if trace[name] is not None:
            groups[trace["project_id"], trace[name]].append(trace)
    result = {}
    for key, members in groups.items():
        row: dict[str, Any] = {
            "project_id": key[0],
            name: key[1],
            "first_ts": min(trace["start_ts"] for trace in members),
            "last_ts": max(trace["end_ts"] for trace in members),
            "trace_count": len(members),
            **{column: sum(trace[column] for trace in members) for column in SUMS},
        }
        if name == "session_id":
            row["user_id"] = min((trace["user_id"] for trace in members if trace["user_id"] is not None), default=None)
        else:
            row["session_count"] = len({trace["session_id"] for trace in members if trace["session_id"] is not None})
        result[key] = row
    return result


async def counted_totals(owner: asyncpg.Connection) -> dict[str, Any]:
    """Return the sums of all rollups, whether or not the folder of a server was there: what metrics add up to."""
    row = await owner.fetchrow(
        "SELECT coalesce(sum(spans), 0) AS spans, coalesce(sum(traces), 0) AS traces,"
        " coalesce(sum(total_tokens), 0) AS total_tokens, coalesce(sum(total_cost), 0) AS total_cost,"
        " coalesce(sum(duration_us), 0) AS duration_us"
        " FROM (SELECT spans, traces, total_tokens, total_cost, duration_us FROM rollup_delta"
        " UNION ALL SELECT spans, traces, total_tokens, total_cost, duration_us FROM rollup_1d) AS counted"
    )
    assert row is not None
    return dict(row)
