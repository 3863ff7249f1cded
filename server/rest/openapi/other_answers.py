"""Answers of the routes that speak another API: Prometheus', Jaeger's, Tempo's, Grafana's JSON data source, OAuth.

Whole bodies by route name, since these have no envelope of ours. A test holds every answer of an example against its
schema, member by member. No ``oneOf`` has a list among its branches: generators for Java write code for it that does
not compile.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from server.rest.openapi.answers import FLAG, FREE, NUMBER, TEXTS, choice, record
from server.rest.openapi.schemas import COUNT, TEXT, Schema, list_of, nullable, object_of, reference

ANY: Final[Schema] = {}
_NOTHING: Final[Schema] = {"type": "object", "maxProperties": 0}
# Null where there is nothing to say; a schema of null alone is what generators for Go stumble over.
_NONE: Final[Schema] = {"type": ["array", "null"], "items": TEXT}
_LABELS: Final[Schema] = {"type": "object", "additionalProperties": TEXT}


def _constant(value: str) -> Schema:
    return {"type": "string", "const": value}


def _pair(*types: str) -> Schema:
    """Return a list of two, each of one of ``types``."""
    return {"type": "array", "items": {"type": list(types)}, "minItems": 2, "maxItems": 2}


# Prometheus: numbers that count are texts, as NaN and Inf have no place in JSON.
_SAMPLE: Final = {**_pair("number", "string"), "description": "Epoch seconds, and the value as a text."}
_NATIVE: Final = {
    **_pair("number", "object"),
    "description": "Epoch seconds, and a histogram: count, sum, and buckets of rule, low, high and count.",
}


def _prometheus(data: Schema) -> Schema:
    properties = {"status": _constant("success"), "data": data, "warnings": TEXTS, "infos": TEXTS}
    return object_of(properties, required=("status", "data"))


def _result(kind: Schema, result: Schema) -> Schema:
    stats = object_of({"timings": FREE, "samples": FREE})
    return object_of({"resultType": kind, "result": result, "stats": stats}, required=("resultType", "result"))


_EVALUATED: Final = _prometheus(
    {"anyOf": [reference("PrometheusVector"), reference("PrometheusMatrix"), reference("PrometheusSingle")]}
)
_METADATA: Final = {"type": "object", "additionalProperties": list_of(record(type=TEXT, help=TEXT, unit=TEXT))}
_EXEMPLAR: Final = record(labels=_LABELS, value=TEXT, timestamp=NUMBER)
_PROMETHEUS: Final[Mapping[str, Schema]] = {
    "query": _EVALUATED,
    "query_range": _prometheus(reference("PrometheusMatrix")),
    "series": _prometheus(list_of(_LABELS)),
    "labels": _prometheus(TEXTS),
    "label_values": _prometheus(TEXTS),
    "metadata": _prometheus(_METADATA),
    "format_query": _prometheus(TEXT),
    "parse_query": _prometheus(object_of({"type": TEXT}, required=("type",)) | {"additionalProperties": True}),
    "query_exemplars": _prometheus(list_of(record(seriesLabels=_LABELS, exemplars=list_of(_EXEMPLAR)))),
    "alerts": _prometheus(record(alerts=list_of(FREE))),
    "rules": _prometheus(record(groups=list_of(FREE))),
    "buildinfo": _prometheus(
        record(**dict.fromkeys(("version", "revision", "branch", "buildUser", "buildDate", "goVersion"), TEXT))
    ),
}
_BY_FORM: Final = (
    "query", "query_range", "series", "labels", "label_values", "format_query", "parse_query", "query_exemplars",
)  # fmt: skip


def _jaeger(data: Schema) -> Schema:
    return record(data=data, total=COUNT, limit=COUNT, offset=COUNT, errors=_NONE)


_TAGS: Final = list_of(record(key=TEXT, type=choice(("bool", "int64", "float64", "string")), value=ANY))
_REFERENCE: Final = record(refType=choice(("CHILD_OF", "FOLLOWS_FROM")), traceID=TEXT, spanID=TEXT)
_TEMPO_VALUE: Final = object_of({"stringValue": TEXT, "doubleValue": NUMBER})
_ATTRIBUTES: Final = list_of(record(key=TEXT, value=_TEMPO_VALUE))
_TEMPO_SPAN: Final = record(spanID=TEXT, name=TEXT, startTimeUnixNano=TEXT, durationNanos=TEXT, attributes=_ATTRIBUTES)
_TEMPO_EXEMPLAR: Final = record(labels=_ATTRIBUTES, value=NUMBER, timestampMs=TEXT)

_OPTIONS: Final = list_of(record(label=TEXT, value=TEXT))
_PAYLOAD: Final = object_of(
    {
        "name": TEXT,
        "label": TEXT,
        "type": TEXT,
        "placeholder": TEXT,
        "reloadMetric": FLAG,
        "options": _OPTIONS,
        "width": COUNT,
    },
    required=("name", "label", "type", "placeholder", "reloadMetric"),
)
_ANNOTATION: Final = record(
    annotation=FREE, time=COUNT, timeEnd=nullable(COUNT), title=TEXT, text=nullable(TEXT), tags=TEXTS, id=TEXT
)
_COLUMN_TYPE: Final = choice(("time", "number", "string", "boolean", "other"))
_FRAME_META: Final = object_of(
    {
        "type": TEXT,
        "typeVersion": list_of(COUNT),
        "preferredVisualisationType": TEXT,
        "dataTopic": TEXT,
        "notices": list_of(record(severity=choice(("info", "warning", "error")), text=TEXT)),
        "stats": list_of(record(displayName=TEXT, value=NUMBER)),
        "custom": FREE,
        "uniqueRowIdFields": list_of(COUNT),
    }
)
_FRAME_FIELD: Final = object_of(
    {"name": TEXT, "type": _COLUMN_TYPE, "labels": _LABELS, "config": FREE}, required=("name", "type", "config")
)
_COLUMN: Final = object_of({"text": TEXT, "type": _COLUMN_TYPE, "noValue": TEXT}, required=("text", "type")) | {
    "additionalProperties": True,
    "description": "Further members are Grafana's configuration of the field.",
}

HEALTH: Final = record(
    status=choice(("ok", "degraded", "unavailable")),
    database=choice(("ok", "unreachable", "migrations pending")),
    redis=choice(("ok", "off", "unreachable")),
    draining=choice(("yes", "no")),
)
_METHODS: Final = {
    f"{name}_endpoint_auth_{what}_supported": TEXTS
    for name in ("token", "revocation", "introspection")
    for what in ("methods", "signing_alg_values")
}
_PARTIAL: Final = object_of(
    {"errorMessage": TEXT, **dict.fromkeys(("rejectedSpans", "rejectedLogRecords", "rejectedDataPoints"), TEXT)}
)

COMPONENTS: Final[Mapping[str, Schema]] = {
    "PrometheusVector": _result(
        _constant("vector"),
        list_of(object_of({"metric": _LABELS, "value": _SAMPLE, "histogram": _NATIVE}, required=("metric",))),
    ),
    "PrometheusMatrix": _result(
        _constant("matrix"),
        list_of(
            object_of(
                {"metric": _LABELS, "values": list_of(_SAMPLE), "histograms": list_of(_NATIVE)}, required=("metric",)
            )
        ),
    ),
    "PrometheusSingle": _result(choice(("scalar", "string")), _SAMPLE),
    "JaegerTrace": record(
        traceID=TEXT,
        spans=list_of(reference("JaegerSpan")),
        processes={"type": "object", "additionalProperties": record(serviceName=TEXT, tags=_TAGS)},
        warnings=_NONE,
    ),
    "JaegerSpan": record(
        traceID=TEXT,
        spanID=TEXT,
        processID=TEXT,
        operationName=TEXT,
        flags=COUNT,
        startTime={**COUNT, "description": "Epoch microseconds."},
        duration={**COUNT, "description": "Microseconds."},
        references=list_of(_REFERENCE),
        tags=_TAGS,
        logs=list_of(record(timestamp=COUNT, fields=_TAGS)),
        warnings=_NONE,
    ),
    "GrafanaSeries": object_of(
        {
            "target": TEXT,
            "refId": TEXT,
            "title": TEXT,
            "unit": TEXT,
            "tags": _LABELS,
            "datapoints": {**list_of(_pair("number", "null")), "description": "Value, and epoch milliseconds."},
            "meta": _FRAME_META,
        },
        required=("target", "refId", "title", "tags", "datapoints", "meta"),
    ),
    "GrafanaTable": record(
        type=_constant("table"),
        refId=TEXT,
        name=TEXT,
        columns=list_of(_COLUMN),
        rows=list_of(list_of(ANY)),
        meta=_FRAME_META,
    ),
    "GrafanaFrame": record(
        schema=record(refId=TEXT, name=TEXT, meta=_FRAME_META, fields=list_of(_FRAME_FIELD)),
        data=object_of(
            {"values": list_of(list_of(ANY)), "entities": list_of({"type": ["object", "null"]})}, required=("values",)
        ),
    ),
    "JaegerError": object_of(
        {"data": nullable(FREE), "errors": list_of(record(code=COUNT, msg=TEXT))}, required=("errors",)
    )
    | {"additionalProperties": True},
    "RpcStatus": object_of({"code": COUNT, "message": TEXT, "details": list_of(FREE)}),
}
"""Named schemas of these routes."""

_TOKEN: Final = object_of(
    {"access_token": TEXT, "token_type": _constant("Bearer"), "expires_in": COUNT, "scope": TEXT},
    required=("access_token", "token_type", "expires_in"),
)
_PANELS: Final = list_of({"anyOf": [reference("GrafanaSeries"), reference("GrafanaTable"), reference("GrafanaFrame")]})

OTHER_ANSWERS: Final[Mapping[str, Schema]] = {
    **{f"prometheus.{name}": schema for name, schema in _PROMETHEUS.items()},
    **{f"prometheus.{name}_form": _PROMETHEUS[name] for name in _BY_FORM},
    "jaeger.services": _jaeger(TEXTS),
    "jaeger.operations": _jaeger(TEXTS),
    "jaeger.operation_list": _jaeger(list_of(record(name=TEXT, spanKind=TEXT))),
    "jaeger.trace": _jaeger(list_of(reference("JaegerTrace"))),
    "jaeger.search": _jaeger(list_of(reference("JaegerTrace"))),
    "jaeger.dependencies": _jaeger(list_of(record(parent=TEXT, child=TEXT, callCount=COUNT))),
    "tempo.buildinfo": record(version=TEXT, revision=TEXT, branch=TEXT, buildDate=TEXT),
    "tempo.search": record(
        traces=list_of(
            record(
                traceID=TEXT,
                rootServiceName=TEXT,
                rootTraceName=TEXT,
                startTimeUnixNano=TEXT,
                durationMs=COUNT,
                spanSets=list_of(record(matched=COUNT, spans=list_of(_TEMPO_SPAN))),
            )
        ),
        metrics=_NOTHING,
    ),
    "tempo.tags_v1": record(tagNames=TEXTS),
    "tempo.tags_v2": record(scopes=list_of(record(name=TEXT, tags=TEXTS))),
    "tempo.tag_values_v1": record(tagValues=TEXTS),
    "tempo.tag_values_v2": record(tagValues=list_of(record(type=TEXT, value=TEXT))),
    "tempo_metrics.instant": record(series=list_of(record(labels=_ATTRIBUTES, value=NUMBER)), metrics=_NOTHING),
    "tempo_metrics.range": record(
        series=list_of(
            record(
                labels=_ATTRIBUTES,
                samples=list_of(record(timestampMs=TEXT, value=NUMBER)),
                exemplars=list_of(_TEMPO_EXEMPLAR),
            )
        ),
        metrics=_NOTHING,
    ),
    "grafana.health": record(status=_constant("ok"), version=TEXT),
    "grafana.targets": list_of(record(label=TEXT, value=TEXT, payloads=list_of(_PAYLOAD))),
    "grafana.search": list_of(record(text=TEXT, value=TEXT)),
    "grafana.payload_options": _OPTIONS,
    "grafana.query": _PANELS,
    "grafana.annotations": list_of(_ANNOTATION),
    "grafana.variable": list_of(record(__text=TEXT, __value=TEXT)),
    "grafana.tag_keys": list_of(record(text=TEXT, value=TEXT, group=TEXT)),
    "grafana.tag_values": list_of(record(text=TEXT, value=TEXT)),
    "oauth.token": _TOKEN,
    "oauth.revoke": _NOTHING,
    "oauth.introspect": object_of({"active": FLAG}, required=("active",))
    | {"additionalProperties": True, "description": "Of an active token, its claims too."},
    "oauth.jwks": record(keys=list_of({"type": "object", "additionalProperties": TEXT})),
    "oauth.authorization_server_metadata": record(
        **dict.fromkeys(
            (
                "issuer",
                "token_endpoint",
                "revocation_endpoint",
                "introspection_endpoint",
                "jwks_uri",
                "service_documentation",
            ),
            TEXT,
        ),
        **dict.fromkeys(("scopes_supported", "response_types_supported", "grant_types_supported"), TEXTS),
        **_METHODS,
    ),
    "oauth.protected_resource_metadata": record(
        **dict.fromkeys(("resource", "jwks_uri", "resource_name", "resource_documentation"), TEXT),
        **dict.fromkeys(("authorization_servers", "scopes_supported", "bearer_methods_supported"), TEXTS),
    ),
    "health.live": record(status=_constant("ok")),
    "health.ready": HEALTH,
    "health.health": HEALTH,
    "mcp.messages": object_of(
        {"jsonrpc": _constant("2.0"), "id": {"type": ["string", "integer", "null"]}, "result": FREE, "error": FREE},
        required=("jsonrpc",),
    ),
    **{f"otlp.export_{name}": object_of({"partialSuccess": _PARTIAL}) for name in ("traces", "logs", "metrics")},
    "description.document": FREE,
}
"""Bodies in JSON."""

FILES: Final[Mapping[str, str]] = {
    "tempo.echo": "text/plain",
    "tempo.trace_v1": "application/protobuf",
    "tempo.trace_v2": "application/protobuf",
    "health.metrics": "text/plain",
    "scrape.project": "text/plain",
    "description.explorer": "text/html",
    "description.explorer_script": "text/javascript",
    "description.explorer_style": "text/css",
    "description.errors": "text/html",
}
"""Media types of the routes that answer with something other than JSON."""
BODILESS: Final = frozenset({("mcp.messages", 202)})
"""Routes and statuses without a body."""
