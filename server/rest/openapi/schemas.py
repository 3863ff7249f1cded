"""The schemas of the OpenAPI document: rows from the table of fields, errors from the catalogue, the filter grammar."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from server.errors import catalogue
from server.queries.filters.operators import OPERATORS
from server.queries.filters.span_fields import FieldType, TraceField
from server.queries.lists.list_question import VIEWS
from server.queries.lists.session_reader import SESSIONS, USERS, SummaryKind
from server.queries.lists.shown_rows import TIMES
from server.queries.metrics.metric_catalog import DIMENSIONS, METRICS

Schema = dict[str, Any]

TEXT: Final[Schema] = {"type": "string"}
TIME: Final[Schema] = {"type": "string", "format": "date-time"}
COUNT: Final[Schema] = {"type": "integer"}
MONEY: Final[Schema] = {"type": "number", "description": "US dollars, with all digits."}

_TYPES: Final[dict[FieldType, Schema]] = {
    FieldType.KEYWORD: TEXT,
    FieldType.TEXT: TEXT,
    FieldType.INTEGER: COUNT,
    FieldType.NUMBER: {"type": "number"},
    FieldType.MONEY: MONEY,
    FieldType.TIME: TIME,
    FieldType.BOOLEAN: {"type": "boolean"},
    FieldType.TAGS: {"type": "array", "items": TEXT},
    FieldType.JSON: {},
    FieldType.FULL_TEXT: TEXT,
}


def nullable(schema: Schema) -> Schema:
    """Return ``schema`` or null."""
    return {**schema, "type": [schema["type"], "null"]} if "type" in schema else schema


def reference(name: str) -> Schema:
    """Return a reference to the schema called ``name``."""
    return {"$ref": f"#/components/schemas/{name}"}


def list_of(item: Schema) -> Schema:
    """Return an array of ``item``."""
    return {"type": "array", "items": item}


def object_of(properties: Mapping[str, Schema], *, required: tuple[str, ...] = (), closed: bool = False) -> Schema:
    """Return an object with ``properties``; ``closed``: and no others."""
    schema: Schema = {"type": "object", "properties": dict(properties)}
    if required:
        schema["required"] = list(required)
    if closed:
        schema["additionalProperties"] = False
    return schema


def value_schema(field: TraceField) -> Schema:
    """Return the values of ``field`` in a filter."""
    words = [*field.choices, *dict(field.choice_aliases)]
    return {**_TYPES[field.type], **({"enum": words} if words else {})}


def _row(fields: Mapping[str, TraceField]) -> Schema:
    # Content is null for callers who may not see it, so every such field may be null.
    properties = {}
    for name, field in fields.items():
        if field.selectable:
            schema = _TYPES[field.type]
            may_be_null = field.nullable or field.is_content
            properties[name] = {**(nullable(schema) if may_be_null else schema), "description": field.sentence}
    return object_of({**properties, **_milliseconds(properties)})


def _milliseconds(columns: Iterable[str]) -> dict[str, Schema]:
    """Return the members that rows have beside their times."""
    twins = {column: twin for column, twin in TIMES.items() if column in columns and twin}
    return {twin: {**COUNT, "description": f"{column} in epoch milliseconds."} for column, twin in twins.items()}


_NOT_OF_ONE: Final = ("ts", "ts_ms", "has_error")
"""Members of a trace in a list that it does not have among the traces of a session or user."""


def _summary(kind: SummaryKind) -> Schema:
    types = {"first_ts": TIME, "last_ts": TIME, "total_cost_usd": MONEY, "user_id": nullable(TEXT)}
    types |= {kind.id: TEXT, "project_id": TEXT}
    properties = {column: types.get(column, COUNT) for column in kind.columns}
    trace = {
        name: schema for name, schema in _row(VIEWS["traces"].fields)["properties"].items() if name not in _NOT_OF_ONE
    }
    traces = {**list_of(object_of({"start_ts": TIME, **trace})), "description": "Where one is asked for by its id."}
    return object_of({**properties, "duration_ms": {"type": "number"}, "traces": traces})


def _trace() -> Schema:
    totals = ("span_count", "generation_count", "error_count", "prompt_tokens", "completion_tokens", "total_tokens")
    return object_of(
        {
            "trace_id": TEXT,
            "project_id": TEXT,
            "start_ts": TIME,
            "end_ts": TIME,
            **_milliseconds(("end_ts",)),
            "duration_ms": {"type": "number"},
            "root": nullable(object_of({"span_id": TEXT, "span_name": TEXT})),
            "service_name": nullable(TEXT),
            "environment": nullable(TEXT),
            "session_id": nullable(TEXT),
            "user_id": nullable(TEXT),
            "totals": object_of({**dict.fromkeys(totals, COUNT), "total_cost_usd": MONEY}),
            "omitted_spans": {**COUNT, "description": "Spans of a very large trace that are not shown."},
            "spans": list_of(reference("TreeSpan")),
            "scores": list_of(reference("Score")),
        }
    )


def _problem() -> Schema:
    codes = sorted({kind.code for kind in catalogue()})
    place: Schema = object_of({"parameter": TEXT, "pointer": TEXT, "detail": TEXT})
    return object_of(
        {
            "type": TEXT,
            "title": TEXT,
            "status": COUNT,
            "detail": TEXT,
            "code": {"type": "string", "enum": codes},
            "request_id": nullable(TEXT),
            "errors": list_of(place),
        },
        required=("type", "title", "status", "code"),
    )


def _filter() -> Schema:
    """Return the grammar of server/queries/filters/filter_tree.py."""
    inner = reference("Filter")
    branches = [object_of({word: list_of(inner)}, required=(word,), closed=True) for word in ("and", "or")]
    branches.append(object_of({"not": inner}, required=("not",), closed=True))
    has = object_of({"has": inner}, required=("has",), closed=True)
    branches += [object_of({word: has}, required=(word,), closed=True) for word in ("trace", "session")]
    leaf: dict[str, Schema] = {
        "field": {"type": "string", "description": "A field, or attribute.KEY, resource.KEY, score.NAME."},
        "operator": {"type": "string", "enum": list(OPERATORS)},
        "value": {},
    }
    branches.append(object_of(leaf, required=("field", "operator", "value"), closed=True))
    return {"oneOf": branches, "description": "At most five levels and 50 comparisons."}


def _search() -> Schema:
    moment: Schema = {"type": ["string", "integer"]}
    sort = object_of(
        {"field": TEXT, "order": {"type": "string", "enum": ["asc", "desc"]}}, required=("field",), closed=True
    )
    return object_of(
        {
            "filter": reference("Filter"),
            "from": moment,
            "to": moment,
            "project_id": {"type": ["string", "array"], "items": TEXT},
            "view": {"type": "string", "enum": list(VIEWS)},
            "sort": {**list_of(sort), "maxItems": 3},
            "fields": list_of(TEXT),
            "include": list_of(TEXT),
            "total": {"type": "string", "enum": ["none", "estimate", "capped", "exact"]},
            "limit": {"type": "integer", "minimum": 1, "maximum": 1000},
            "cursor": TEXT,
            "explain": {"type": "boolean"},
        },
        closed=True,
    )


def _included() -> dict[str, Schema]:
    """Return the keys that rows have for ``include=``."""
    snippet = object_of({"field": TEXT, "snippet": TEXT})
    told = {
        "scores": ("Score", "With include=scores: those of the span or trace."),
        "children": ("Span", "With include=children: the spans below, without their content."),
    }
    found = {name: {**list_of(reference(kind)), "description": text} for name, (kind, text) in told.items()}
    return {**found, "snippets": {**list_of(snippet), "description": "With include=snippets: where search= hit."}}


def _nearness() -> dict[str, Schema]:
    """Return the keys that rows of a list by meaning have beside their fields."""
    found_by = list_of({"type": "string", "enum": ["meaning", "search"]})
    place = {"type": ["integer", "null"]}
    return {
        "rank": {"type": "number", "description": "Lists by meaning are sorted by it, the largest first."},
        "found_by": {**found_by, "description": "The parts of the question that found the row."},
        "similarity": {"type": ["number", "null"], "description": "Cosine of the vectors; null: only words found it."},
        "meaning_place": {**place, "description": "Place in the ranking by meaning, from 1."},
        "search_place": {**place, "description": "Place in the ranking by words, from 1."},
        "same_text": {**COUNT, "description": "Further rows that say the same, word for word."},
    }


def _meaning() -> Schema:
    counts = ("rows_in_range", "rows_with_vectors", "rows_looked_at", "ranked")
    names = list_of(TEXT)
    properties = {"models": names, **dict.fromkeys(counts, COUNT), "notes": names}
    return {**object_of(properties), "description": "Of a list by meaning: how much of the range it covers."}


def _facts() -> dict[str, Schema]:
    """Return the members of ``meta`` that only some routes have: facts about the making of their numbers."""
    moments = list_of(TIME)
    told: dict[str, tuple[Schema, str]] = {
        "view": ({"type": "string", "enum": list(VIEWS)}, "Lists: rows are spans or whole traces."),
        "from": (TIME, "Start of the range that was read, included."),
        "to": (TIME, "End of that range, not included."),
        "time_zone": (TEXT, "The zone in which days and weeks begin."),
        "source": (TEXT, "What was read: rollups, raw rows or both; rows where a facet counted them."),
        "precision": ({"type": "string", "enum": ["exact", "sketch"]}, "sketch: percentiles are within 1 %."),
        "interval": (nullable(TEXT), "Width of a bucket; null for one value over the range."),
        "interval_seconds": (nullable(COUNT), "The same in seconds, where it has a fixed length."),
        "incomplete": (moments, "Starts of the buckets that the range covers in part."),
        "notices": (list_of(TEXT), "What limits these numbers, in sentences."),
        "groups_total": (COUNT, "Groups that there are, shown or summed up as other."),
        "rows_read": (COUNT, "Rows that the answer was computed from."),
        "compared_from": (TIME, "Start of the range that change_pct compares with."),
        "compared_to": (TIME, "End of that range."),
        "no_change_reason": (nullable(TEXT), "Why change_pct is null."),
        "field": (TEXT, "The field of a facet."),
        "exact": ({"type": "boolean"}, "Whether a facet counted every row of the range."),
        "distinct": (COUNT, "Different values of the facet."),
        "is_complete": ({"type": "boolean"}, "Whether the rows are all that there are."),
        "created": (COUNT, "Scores that are new; the others replaced one."),
        "tables": (list_of(TEXT), "With explain=1: the tables that were read."),
        "explain": ({}, "With explain=1: how the database found the rows."),
    }
    return {name: {**schema, "description": sentence} for name, (schema, sentence) in told.items()}


def component_schemas() -> dict[str, Schema]:
    """Return every named schema."""
    place = {"depth": COUNT, "placement": TEXT, "child_count": COUNT}
    span, trace = _row(VIEWS["spans"].fields), _row(VIEWS["traces"].fields)
    score_value = {"type": ["number", "null"]}
    return {
        "Span": object_of({**span["properties"], **_included(), **_nearness()}),
        "TraceSummary": object_of({**trace["properties"], **_included(), **_nearness()}),
        "TreeSpan": object_of({**span["properties"], **place}, required=tuple(place)),
        "Trace": _trace(),
        "Session": _summary(SESSIONS),
        "User": _summary(USERS),
        "Score": object_of(
            {
                "score_id": TEXT,
                "trace_id": TEXT,
                "span_id": nullable(TEXT),
                "name": TEXT,
                "data_type": {"type": "string", "enum": ["numeric", "boolean", "categorical"]},
                "value": score_value,
                "string_value": nullable(TEXT),
                "source": {"type": "string", "enum": ["human", "eval", "api"]},
                "comment": nullable(TEXT),
                "created_by": TEXT,
                "ts": TIME,
                "ts_ms": COUNT,
            }
        ),
        "FacetValue": object_of({"value": TEXT, "count": COUNT}, required=("value", "count")),
        "Filter": _filter(),
        "Search": _search(),
        "MetricName": {"type": "string", "enum": list(METRICS)},
        "DimensionName": {"type": "string", "description": f"{', '.join(DIMENSIONS)}, or attribute.KEY."},
        "Pagination": object_of(
            {
                "cursor": nullable(TEXT),
                "has_more": {"type": "boolean"},
                "limit": COUNT,
                "total": {**COUNT, "description": "Rows of the whole list, where total= asked for it."},
                "total_relation": {
                    "type": "string",
                    "enum": ["eq", "gte", "approximate"],
                    "description": "The total is exact, the cap that was reached, or an estimate.",
                },
            },
            required=("cursor", "has_more", "limit"),
        ),
        "Meta": object_of(
            {
                "timestamp": TIME,
                "execution_time_ms": {"type": "number"},
                "cached": {"type": "boolean"},
                "read_from": {"type": "string", "enum": ["primary", "replica"]},
                "stale_seconds": {"type": "number"},
                "one_snapshot": {"type": "boolean", "const": False},
                "version": TEXT,
                "request_id": nullable(TEXT),
                "clipped_fields": list_of(TEXT),
                "hidden_fields": list_of(TEXT),
                "meaning": _meaning(),
                **_facts(),
            },
            required=("timestamp", "execution_time_ms", "cached", "version", "request_id"),
        ),
        "Problem": _problem(),
        "GrafanaError": object_of(
            {"message": TEXT, "error": object_of({"code": TEXT, "message": TEXT}), "request_id": nullable(TEXT)},
            required=("message", "error"),
        ),
        "PrometheusError": object_of(
            {"status": {"type": "string", "const": "error"}, "errorType": TEXT, "error": TEXT},
            required=("status", "errorType", "error"),
        ),
        "OAuthError": object_of({"error": TEXT, "error_description": TEXT}, required=("error",)),
    }


def envelope(data: Schema, *, is_paged: bool) -> Schema:
    """Return the envelope round ``data``."""
    properties = {"status": {"type": "string", "const": "success"}, "data": data, "meta": reference("Meta")}
    required: tuple[str, ...] = ("status", "data", "meta")
    if is_paged:
        properties |= {"pagination": reference("Pagination"), "next_cursor": nullable(TEXT)}
        required = (*required, "pagination", "next_cursor")
    elif data.get("type") == "array":
        # Always null; as a type of its own, generators of code stumble over it.
        properties |= {"next_cursor": nullable(TEXT)}
        required = (*required, "next_cursor")
    return object_of(properties, required=required)
