"""Scores that senders put on spans and log records: evaluation events, annotations, feedback.

In an OTLP export, scores are events of the spans that they judge, named as OpenTelemetry names them: ``server.export``
writes them by :func:`score_attributes`, :func:`take_scores` reads them back as they were. Other backends find
``gen_ai.evaluation.result``; what that has no name for is under ``llm_observatory.score.``. Where the sender of the
span had sent the score as such an event himself, that event carries it, so that nobody counts it twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from server.ingest.dialects.attribute_table import read_table
from server.ingest.mapping.attribute_choice import SpanFields
from server.ingest.mapping.exported_spans import EXPORT_SCOPE
from server.ingest.mapping.mapping_result import MappingLimits, ScoreRecord
from server.ingest.mapping.span_times import to_datetime
from server.ingest.messages.coercion import cut_text, decode_json, storable, to_number, to_text
from server.ingest.otlp.payload import Attributes, DecodedEvent, DecodedScope, DecodedSpan

EVALUATION: Final[str] = read_table("events.json")["evaluation"]
_BODIES: Final[dict[str, str]] = read_table("events.json")["evaluation_bodies"]
"""Events whose judgement is a JSON object, and the attribute that holds it."""
FEEDBACK_NAME: Final = "logfire.feedback.name"
_MOST_SCORES: Final = 64
"""Annotations of one span that are read."""
_ANNOTATORS: Final = {"HUMAN": "human", "LLM": "eval", "CODE": "eval"}

NAME: Final = "gen_ai.evaluation.name"
VALUE: Final = "gen_ai.evaluation.score.value"
OWN_PREFIX: Final = "llm_observatory.score."
_ID: Final = f"{OWN_PREFIX}id"
_TYPE: Final = f"{OWN_PREFIX}data_type"
_SOURCE: Final = f"{OWN_PREFIX}source"
_OF_TRACE: Final = f"{OWN_PREFIX}of_trace"
_OF_SENDER: Final = f"{OWN_PREFIX}of_sender"
_TEXTS: Final[Mapping[str, tuple[str, int]]] = {
    "score_id": (_ID, 512),
    "name": (NAME, 2048),
    "string_value": ("gen_ai.evaluation.score.label", 2048),
    "comment": ("gen_ai.evaluation.explanation", 32_768),
    "created_by": (f"{OWN_PREFIX}created_by", 2048),
}
"""Texts of a score: the attribute that holds each, and its longest length in bytes."""
_SOURCES: Final = ("human", "eval", "api")
OWN_NAMES: Final = frozenset({_ID, _TYPE, _SOURCE, _OF_TRACE, _OF_SENDER, _TEXTS["created_by"][0]})
"""Attributes that only exports write."""


def has_scores(span: DecodedSpan, fields: SpanFields) -> bool:
    """Return whether ``span`` may carry scores; most do not."""
    return bool(span.events) or "score" in fields.found or FEEDBACK_NAME in span.attributes


def scores_of_span(span: DecodedSpan, fields: SpanFields, limits: MappingLimits) -> Iterator[ScoreRecord]:
    """Yield the judgements in the events and attributes of ``span``."""
    for event in span.events:
        if event.name == EVALUATION:
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
            source = _ANNOTATORS.get(str(item.get("annotator_kind")).upper(), "eval")
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


def score_attributes(score: Mapping[str, Any], *, is_of_sender: bool = False) -> Attributes:
    """Return the attributes of the event for a row of ``scores``; ``is_of_sender``: those that the sender's own event
    lacks.
    """
    told: Attributes = {attribute: score[name] for name, (attribute, _) in _TEXTS.items() if score[name] is not None}
    if score["value"] is not None:
        told[VALUE] = score["value"]
    told |= {_TYPE: score["data_type"], _SOURCE: score["source"]}
    if score["span_id"] is None:
        told[_OF_TRACE] = True
    if is_of_sender:
        return {**{key: value for key, value in told.items() if key in OWN_NAMES}, _OF_SENDER: True}
    return told


def is_told_by(score: Mapping[str, Any], event_name: str, attributes: Attributes, moment: datetime) -> bool:
    """Return whether an event of the span itself says what ``score`` says, so that it may carry it."""
    return (
        event_name == EVALUATION
        and moment == score["ts"]
        and _number(attributes.get(VALUE)) == score["value"]
        and all(attributes.get(attribute) == score[name] for name, (attribute, _) in _TEXTS.items()
                if attribute not in OWN_NAMES)
    )  # fmt: skip


def carries_scores(scope: DecodedScope) -> bool:
    """Return whether ``scope`` is that of an export that has all scores of its spans: those of version 1 have none."""
    return scope.name == EXPORT_SCOPE and scope.version not in ("", "1")


def take_scores(span: DecodedSpan, fields: SpanFields) -> list[ScoreRecord]:
    """Return the scores in the events of a span of an export, and leave the events that it had before.

    An event that is no score that could have been exported is left out, and ``fields`` notes it.
    """
    found: list[ScoreRecord] = []
    events: list[DecodedEvent] = []
    for event in span.events:
        if _ID not in event.attributes:
            events.append(event)
            continue
        score = _score(span, event)
        if score is None:
            fields.drop("scores", "no_score")
        else:
            found.append(score)
        if event.attributes.get(_OF_SENDER) is True:
            event.attributes = {key: value for key, value in event.attributes.items() if key not in OWN_NAMES}
            events.append(event)
    span.events = events
    return found


def _score(span: DecodedSpan, event: DecodedEvent) -> ScoreRecord | None:
    told = event.attributes
    texts = {name: _text(told.get(attribute), limit) for name, (attribute, limit) in _TEXTS.items()}
    value, data_type, source = _number(told.get(VALUE)), told.get(_TYPE), told.get(_SOURCE)
    is_whole = {
        "numeric": value is not None,
        "boolean": value in (0.0, 1.0),
        "categorical": texts["string_value"] is not None,
    }.get(data_type if isinstance(data_type, str) else "", False)
    if not (is_whole and texts["score_id"] and texts["name"] and source in _SOURCES):
        return None
    return ScoreRecord(
        score_id=texts["score_id"],
        trace_id=span.trace_id,
        span_id=None if told.get(_OF_TRACE) is True else span.span_id,
        name=texts["name"],
        data_type=str(data_type),
        value=value,
        string_value=texts["string_value"],
        source=str(source),
        comment=texts["comment"],
        ts=to_datetime(event.time_ns or span.start_ns),
        created_by=texts["created_by"],
    )


def _text(value: Any, limit: int) -> str | None:
    return (cut_text(storable(value)[0], limit)[0] or None) if isinstance(value, str) else None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, bool) else to_number(value)[0]
