"""Scores of an export, in the form of ``POST /api/v1/scores/batch``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from server.imports.identifiers import SPAN_DIGITS, TRACE_DIGITS, identifier
from server.imports.import_format import ImportFormat, RowKind
from server.imports.moments import nanoseconds
from server.imports.paths import first_of, opened
from server.imports.rows import Record

_LONGEST_TEXT: Final = 500
_LONGEST_COMMENT: Final = 8192
_LONGEST_ID: Final = 128
_TRUE: Final = ("1", "true", "1.0")


def read_score(
    table: ImportFormat, kind: RowKind, record: Record, trace_of_span: Mapping[str, str], trace_id: str | None
) -> dict[str, Any]:
    """Read the score in ``record``.

    Its trace is the trace that it names, else ``trace_id``, else the trace of its span. Raises ValueError, with a
    sentence.
    """
    named, source_span = kind.part(record, "trace_id"), kind.part(record, "span_id")
    if named is not None:
        trace_id = identifier(named, TRACE_DIGITS, table.ids)
    elif trace_id is None and source_span is not None:
        trace_id = trace_of_span.get(str(source_span))
    if trace_id is None:
        raise ValueError("does not belong to a trace in these files")
    score: dict[str, Any] = {
        "trace_id": trace_id,
        "name": str(kind.part(record, "name") or "score")[:200],
        "value": _value(kind, record),
        "source": kind.sources.get(str(kind.part(record, "source")), "api"),
    }
    # Feedback on a whole trace has the id of its root run in LangSmith.
    if source_span is not None:
        score["span_id"] = identifier(source_span, SPAN_DIGITS, table.ids, within=trace_id)
    source_id, comment, time = (kind.part(record, part) for part in ("score_id", "comment", "time"))
    score["score_id"] = _score_id(table, source_id, score)
    if comment is not None:
        score["comment"] = str(comment)[:_LONGEST_COMMENT]
    if time is not None:
        score["timestamp"] = nanoseconds(time) // 1_000_000
    return score


def scores_on_span(table: ImportFormat, kind: RowKind, record: Record, span: Mapping[str, Any]) -> Iterator[Record]:
    """Yield the scores that are part of the row of a span."""
    by_name = opened(kind.part(record, "scores_by_name"))
    values: dict[str, Any] = dict(by_name) if isinstance(by_name, dict) else {}
    values |= {name: first_of(record, paths) for name, paths in kind.score_members.items()}
    for name, value in values.items():
        if isinstance(value, dict):
            value = value.get("value")
        if isinstance(value, bool | int | float | Decimal):
            score: dict[str, Any] = {"trace_id": span["traceId"], "span_id": span["spanId"], "name": str(name)[:200]}
            score |= {"value": _number(value), "source": "api"}
            score["timestamp"] = int(span["endTimeUnixNano"]) // 1_000_000
            yield {**score, "score_id": _score_id(table, None, score)}


def _score_id(table: ImportFormat, source: Any, score: Mapping[str, Any]) -> str:
    """Return the tool's id, or one derived from the subject of the score, so that a second import replaces the
    first."""
    if source is not None and len(str(source)) <= _LONGEST_ID:
        return str(source)
    about = f"{table.tool}\0{score['name']}\0{score.get('span_id', '')}\0{source or ''}"
    return identifier(about, TRACE_DIGITS, (), within=score["trace_id"])


def _value(kind: RowKind, record: Record) -> bool | int | float | str:
    value, text = kind.part(record, "value"), kind.part(record, "text")
    wanted = kind.types.get(str(kind.part(record, "type")))
    if wanted == "boolean":
        return str(value).lower() in _TRUE
    if wanted == "text" or value is None:
        value = text if text is not None else value
    if value is None:
        raise ValueError("has no value")
    if isinstance(value, bool | int | float | Decimal):
        return _number(value)
    if wanted == "number" or (wanted is None and value is not text):
        try:
            return float(Decimal(str(value)))
        except InvalidOperation:
            pass
    return str(value)[:_LONGEST_TEXT]


def _number(value: bool | int | float | Decimal) -> bool | int | float:
    return float(value) if isinstance(value, Decimal) else value
