"""Scores that senders put on spans and log records: evaluation events, annotations, feedback."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Final

from server.ingest.dialects.attribute_table import read_table
from server.ingest.mapping.attribute_choice import SpanFields
from server.ingest.mapping.mapping_result import MappingLimits, ScoreRecord
from server.ingest.mapping.span_times import to_datetime
from server.ingest.messages.coercion import decode_json, to_number, to_text
from server.ingest.otlp.payload import Attributes, DecodedSpan

_EVALUATION: Final[str] = read_table("events.json")["evaluation"]
_BODIES: Final[dict[str, str]] = read_table("events.json")["evaluation_bodies"]
"""Events whose judgement is a JSON object, and the attribute that holds it."""
FEEDBACK_NAME: Final = "logfire.feedback.name"
_MOST_SCORES: Final = 64
"""Annotations of one span that are read."""
_SOURCES: Final = {"HUMAN": "human", "LLM": "eval", "CODE": "eval"}


def has_scores(span: DecodedSpan, fields: SpanFields) -> bool:
    """Return whether ``span`` may carry scores; most do not."""
    return bool(span.events) or "score" in fields.found or FEEDBACK_NAME in span.attributes


def scores_of_span(span: DecodedSpan, fields: SpanFields, limits: MappingLimits) -> Iterator[ScoreRecord]:
    """Yield the judgements in the events and attributes of ``span``."""
    for event in span.events:
        if event.name == _EVALUATION:
            found = evaluation(event.attributes, span.trace_id, span.span_id, event.time_ns or span.start_ns, limits)
            if found is not None:
                yield found
        elif event.name in _BODIES:
            judgement = _judgement(event.attributes.get(_BODIES[event.name]))
            found = evaluation(judgement, span.trace_id, span.span_id, event.time_ns or span.start_ns, limits)
            if found is not None:
                yield found
    yield from _annotations(span, fields, limits)
    name = span.attributes.get(FEEDBACK_NAME)
    if isinstance(name, str):
        judged = {
            "gen_ai.evaluation.name": name,
            "gen_ai.evaluation.explanation": span.attributes.get("logfire.feedback.comment"),
        }
        given = span.attributes.get(name)
        key = "label" if isinstance(given, str) else "value"
        found = evaluation(
            {**judged, f"gen_ai.evaluation.score.{key}": given},
            span.trace_id, span.parent_span_id, span.start_ns, limits, source="human",
        )  # fmt: skip
        if found is not None:
            yield found


def _judgement(body: Any) -> Attributes:
    """Return the fields of a judgement that came as one object; one without a score says whether it was passed."""
    fields = decode_json(body) if isinstance(body, str) else body
    if not isinstance(fields, dict):
        return {}
    score = fields.get("score")
    return {
        "gen_ai.evaluation.name": fields.get("name"),
        "gen_ai.evaluation.score.value": fields.get("passed") if score is None else score,
        "gen_ai.evaluation.score.label": fields.get("label"),
        "gen_ai.evaluation.explanation": fields.get("details"),
        "gen_ai.evaluation.evaluator.id": fields.get("evaluator_id"),
    }


def _annotations(span: DecodedSpan, fields: SpanFields, limits: MappingLimits) -> Iterator[ScoreRecord]:
    """Read OpenInference's form: one attribute per field; those of a trace or a session judge the trace."""
    for _, prefix, values in fields.found.pop("score", ()):
        items: dict[int, dict[str, Any]] = {}
        for index, path, value in values:
            items.setdefault(index, {})[path.rpartition(".")[2]] = value
        span_id = "" if prefix.startswith(("trace.", "session.")) else span.span_id
        for item in list(items.values())[:_MOST_SCORES]:
            judged = {
                "gen_ai.evaluation.name": item.get("name"),
                "gen_ai.evaluation.score.value": item.get("score"),
                "gen_ai.evaluation.score.label": item.get("label"),
                "gen_ai.evaluation.explanation": item.get("explanation"),
                "gen_ai.evaluation.evaluator.id": item.get("identifier"),
            }
            source = _SOURCES.get(str(item.get("annotator_kind")).upper(), "eval")
            found = evaluation(judged, span.trace_id, span_id, span.start_ns, limits, source=source)
            if found is not None:
                yield found


def evaluation(
    attributes: Attributes, trace_id: str, span_id: str, time_ns: int, limits: MappingLimits, *, source: str = "eval"
) -> ScoreRecord | None:
    """Return the score of an evaluation event; None if it has no name, or neither a value nor a label."""
    fields = SpanFields()
    name = fields.clean("name", to_text(attributes.get("gen_ai.evaluation.name")).strip(), limits.name)
    label = fields.clean("string_value", to_text(attributes.get("gen_ai.evaluation.score.label")), limits.name)
    comment = to_text(attributes.get("gen_ai.evaluation.explanation"))
    raw = attributes.get("gen_ai.evaluation.score.value")
    value, _ = (float(raw), None) if isinstance(raw, bool) else to_number(raw)
    if not name or (value is None and not label):
        return None
    evaluator = next((to_text(attributes[key]) for key in _EVALUATOR if attributes.get(key)), "")
    identity = "\0".join((trace_id, span_id, name, str(time_ns)))
    return ScoreRecord(
        score_id=hashlib.sha256(identity.encode()).hexdigest()[:32],
        trace_id=trace_id,
        span_id=span_id or None,
        name=name,
        data_type="boolean" if isinstance(raw, bool) else "numeric" if value is not None else "categorical",
        value=value,
        string_value=label or None,
        source=source,
        comment=fields.clean("comment", comment, limits.error_message) or None,
        ts=to_datetime(time_ns),
        created_by=fields.clean("created_by", evaluator, limits.name) or None,
    )


_EVALUATOR: Final = ("gen_ai.evaluation.evaluator.id", "gen_ai.evaluation.evaluator.type")
