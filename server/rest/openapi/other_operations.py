"""Input of the routes that speak another API: Prometheus', Jaeger's, Tempo's, Grafana's JSON data source, OAuth.

Rows are those of server/rest/openapi/operations.py. Their answers are in other_answers.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from server.rest.openapi.operation import Operation, query
from server.rest.openapi.schemas import TEXT, Schema, list_of, object_of

FORM: Final = "application/x-www-form-urlencoded"
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}

_PROMETHEUS: Final[dict[str, tuple[Schema, str]]] = {
    "query": (TEXT, "The PromQL expression."),
    "time": (TEXT, "The moment: RFC 3339 or epoch seconds; default now."),
    "start": (TEXT, "Start of the range: RFC 3339 or epoch seconds."),
    "end": (TEXT, "End of the range, included."),
    "step": (TEXT, "Width of a step: a duration such as 1m, or seconds."),
    "timeout": (TEXT, "The longest time to work: a duration."),
    "limit": (TEXT, "The most results; 0: all."),
    "stats": (TEXT, "Anything: figures about the evaluation in the answer."),
    "match[]": (list_of(TEXT), "Selectors of series; repeat it for several."),
    "metric": (TEXT, "Only this metric."),
}
_EVALUATED: Final = ("timeout", "limit", "stats")
_PROMETHEUS_ROUTES: Final[dict[str, tuple[str, ...]]] = {
    "query": ("query", "time", *_EVALUATED),
    "query_range": ("query", "start", "end", "step", *_EVALUATED),
    "series": ("match[]", "start", "end", "limit"),
    "labels": ("match[]", "start", "end", "limit"),
    "format_query": ("query",),
    "parse_query": ("query",),
    "query_exemplars": ("query", "start", "end"),
    "label_values": ("match[]", "start", "end", "limit"),
}
_ALSO_BY_GET: Final[dict[str, tuple[str, ...]]] = {
    "metadata": ("metric", "limit"),
}


def _asked(names: tuple[str, ...]) -> Operation:
    return Operation(parameters=tuple(query(name, *_PROMETHEUS[name]) for name in names))


def _form(names: tuple[str, ...]) -> Operation:
    return Operation(body=object_of({name: _PROMETHEUS[name][0] for name in names}), body_types=(FORM,))


def _with(parameters: Mapping[str, tuple[Schema, str]]) -> Operation:
    return Operation(parameters=tuple(query(name, *described) for name, described in parameters.items()))


_SECONDS: Final = {
    "start": (TEXT, "Start of the range in epoch seconds."),
    "end": (TEXT, "End of the range in epoch seconds; default now."),
}
_TRACEQL: Final = {"q": (TEXT, "TraceQL.")}
_TEMPO_METRICS: Final = {
    **_TRACEQL,
    "query": (TEXT, "The same under its other name."),
    **_SECONDS,
    "since": (TEXT, "Length of the range where start is not given: a duration."),
    "step": (TEXT, "Width of a step: a duration."),
    "exemplars": (_COUNT, "How many examples of traces the answer has."),
}
_TAG_VALUES: Final = {**_TRACEQL, **_SECONDS, "limit": (_COUNT, "The most values.")}

_JAEGER_SEARCH: Final = {
    "service": (TEXT, "Service of a span."),
    "operation": (TEXT, "Name of a span."),
    "tags": (TEXT, "A JSON object of attributes and their values, all texts."),
    "minDuration": (TEXT, "Least duration of a span: 100ms, 1.5s."),
    "maxDuration": (TEXT, "Greatest duration of a span."),
    "start": (TEXT, "Start of the range in epoch microseconds."),
    "end": (TEXT, "End of the range in epoch microseconds."),
    "limit": (_COUNT, "The most traces."),
}

_PANEL: Final = Operation(body={"type": "object"})


def _oauth(*names: str) -> Operation:
    return Operation(body=object_of(dict.fromkeys(names, TEXT)), body_types=(FORM,))


OTHER_OPERATIONS: Final[dict[str, Operation]] = {
    **{f"prometheus.{name}": _asked(names) for name, names in {**_PROMETHEUS_ROUTES, **_ALSO_BY_GET}.items()},
    **{f"prometheus.{name}_form": _form(names) for name, names in _PROMETHEUS_ROUTES.items()},
    "tempo.search": _with(
        {
            **_TRACEQL,
            **_SECONDS,
            "limit": (_COUNT, "The most traces."),
            "spss": (_COUNT, "The most spans of a trace that are shown."),
        }
    ),
    "tempo.tags_v2": _with({"scope": (TEXT, "resource, span or intrinsic; default all.")}),
    "tempo.tag_values_v1": _with(_TAG_VALUES),
    "tempo.tag_values_v2": _with(_TAG_VALUES),
    "tempo_metrics.range": _with(_TEMPO_METRICS),
    "tempo_metrics.instant": _with({name: _TEMPO_METRICS[name] for name in ("q", "query", "start", "end", "since")}),
    "jaeger.search": _with(_JAEGER_SEARCH),
    "jaeger.operation_list": _with({"service": _JAEGER_SEARCH["service"]}),
    "jaeger.dependencies": _with(
        {"endTs": (TEXT, "End of the range in epoch ms."), "lookback": (TEXT, "Its length in ms, at most seven days.")}
    ),
    **{
        f"grafana.{name}": _PANEL
        for name in (
            "targets",
            "search",
            "payload_options",
            "query",
            "annotations",
            "variable",
            "tag_keys",
            "tag_values",
        )
    },
    "oauth.token": _oauth(
        "grant_type", "client_id", "client_secret", "client_assertion", "client_assertion_type", "scope"
    ),
    "oauth.revoke": _oauth("token", "token_type_hint", "client_id", "client_secret"),
    "oauth.introspect": _oauth("token", "token_type_hint", "client_id", "client_secret"),
}
