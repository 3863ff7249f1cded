"""The OpenAPI 3.1 description of the server, built from the tables that the server itself uses.

Paths and methods come from the router, scopes from the access policies, sentences from the handlers, parameters and
rows from the tables of fields, errors from the catalogue. So it cannot drift; tests/contract compares it with the
running server.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sanic import Sanic

from server.access.principal import SCOPES
from server.errors import catalogue
from server.http.guard import AccessPolicy, access_policy
from server.http.repeatable import is_repeatable
from server.rest.openapi.answers import ANSWERS, PAGED
from server.rest.openapi.examples import MADE_VALUES, PATH_VALUES, example_of
from server.rest.openapi.operation import Operation, Parameter
from server.rest.openapi.operations import OPERATIONS
from server.rest.openapi.other_answers import BODILESS, COMPONENTS, FILES, HEALTH, OTHER_ANSWERS
from server.rest.openapi.schemas import Schema, component_schemas, envelope, reference
from server.text.json_text import API_VERSION

TAGS: Final[dict[str, str]] = {
    "analytics": "Reports on cost, speed, quality and models.",
    "annotations": "Marks on dashboards: releases, incidents.",
    "audit": "The audit log: actions and refused requests.",
    "budgets": "Limits on spending per period, and the spending so far.",
    "clients": "OAuth clients that get tokens from this server.",
    "coding_agents": "Daily figures of coding agents.",
    "costs": "Totals, shares and forecasts of money.",
    "description": "This description, and pages to read it with.",
    "erasure": "Removal of everything that is stored of an end user.",
    "export_jobs": "Exports into files, in the background.",
    "exports": "Exports as one answer.",
    "facets": "The values of a field, with counts.",
    "grafana": "The back end of Grafana's JSON data source.",
    "health": "Probes, and metrics of the server itself.",
    "ingest_settings": "Rates, redaction rules and prices of a project.",
    "jaeger": "Jaeger's query API, for Grafana's Jaeger data source.",
    "keys": "API keys.",
    "live": "Spans as they are stored.",
    "mcp": "Tools for agents, by the Model Context Protocol.",
    "metrics": "Aggregates: counts, money, tokens, percentiles.",
    "oauth": "Access tokens.",
    "otlp": "The receiver of OpenTelemetry.",
    "prices": "Prices of models, and stored spans priced again.",
    "projects": "Projects (tenants).",
    "prometheus": "Prometheus' query API, with PromQL.",
    "scores": "Evaluations and feedback.",
    "scrape": "Metrics of a project for a Prometheus to scrape.",
    "sessions": "Conversations and users.",
    "tempo": "Tempo's query API, with TraceQL.",
    "tempo_metrics": "Metrics by TraceQL.",
    "trace_detail": "One trace, one span.",
    "traces": "Lists and searches of spans and traces.",
}
_PARAMETER: Final = re.compile(r"<(\w+)(?::\w+)?>")
_BODY_METHODS: Final = frozenset({"POST", "PUT", "PATCH", "QUERY"})

HEADERS: Final[dict[str, tuple[str, Schema]]] = {
    "X-Request-ID": (
        "The id of the request, from the caller or generated; it is also in logs and errors.",
        {"type": "string"},
    ),
    "X-RateLimit-Limit": ("Requests a minute, sustained.", {"type": "integer"}),
    "X-RateLimit-Remaining": ("Requests that may be sent at once.", {"type": "integer"}),
    "X-RateLimit-Reset": ("Epoch seconds at which the bucket is full again.", {"type": "integer"}),
    "RateLimit-Policy": ("The limit in the form of the IETF's draft.", {"type": "string"}),
    "RateLimit": ("The remaining requests in the form of the IETF's draft.", {"type": "string"}),
    "ETag": ("The entity tag, for If-None-Match.", {"type": "string"}),
    "Retry-After": ("Seconds after which to try again.", {"type": "integer"}),
}
"""Headers of answers, with their meaning."""
OF_LIMITED_ROUTES: Final = (
    "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "RateLimit-Policy", "RateLimit",
)  # fmt: skip

IDEMPOTENCY_KEY: Final[Parameter] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]*$"},
    "description": "A request that is repeated under the same key is carried out once, and answered the same.",
}

# Errors by properties of a route. Every route may also answer 500.
_OF_EVERY_ROUTE: Final = (400, 413, 500)
_OF_DATA: Final = (401, 403, 409, 422, 429, 503, 504)
_OF_PATHS: Final = (404,)
_OF_EXPORTS: Final = 410
_OF_BODIES: Final = (404, 415)
_OF_WEBSOCKETS: Final = 426
HEALTH_PATHS: Final = ("/ready", "/health")


@dataclass(frozen=True, slots=True)
class DescribedRoute:
    """One route as the document shows it."""

    path: str
    method: str
    name: str
    """Blueprint and handler, as in ``traces.list``."""
    sentence: str
    policy: AccessPolicy
    is_websocket: bool
    is_repeatable: bool
    """Whether it heeds an Idempotency-Key."""


def described_routes(app: Sanic[Any, Any]) -> Iterator[DescribedRoute]:
    """Yield every route that the document must have, in order of path and method."""
    found = []
    for route in app.router.routes:
        name = route.name.partition(".")[2]
        policy = access_policy(route.handler)
        if policy is None:
            continue
        path = "/" + _PARAMETER.sub(r"{\1}", route.path)
        # Docstrings write code as ``x``, Markdown (and so OpenAPI) as `x`.
        sentence = (route.handler.__doc__ or "").strip().replace("``", "`")
        is_websocket = hasattr(route.handler, "is_websocket")
        repeats = is_repeatable(route.handler)
        facts = (name, sentence, policy, is_websocket, repeats)
        found += [DescribedRoute(path, method, *facts) for method in route.methods]
    yield from sorted(found, key=lambda item: (item.path, item.method))


def build_document(app: Sanic[Any, Any]) -> dict[str, Any]:
    """Return the whole description, a JSON document."""
    paths: dict[str, dict[str, Any]] = {}
    for route in described_routes(app):
        # OpenAPI 3.1 has no place for QUERY (3.2 does): an extension of the path item keeps it in the document.
        key = "x-query" if route.method == "QUERY" else route.method.lower()
        paths.setdefault(route.path, {})[key] = _operation(route)
    names = sorted({route.name.partition(".")[0] for route in described_routes(app)})
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "LLM Observatory",
            "version": API_VERSION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": (
                "Every GET also answers HEAD, and every path answers OPTIONS. Unknown parameters are errors. "
                "Beside the parameters listed, lists and facets take attribute.KEY, resource.KEY, score.NAME, "
                "min_score.NAME and max_score.NAME."
            ),
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": TAGS[name]} for name in names],
        "paths": paths,
        "components": {
            "schemas": {**component_schemas(), **COMPONENTS},
            "responses": {
                f"{surface}{status}": _error(surface, status) for surface in _SURFACES for status in _STATUSES
            },
            "headers": {name: {"description": text, "schema": schema} for name, (text, schema) in HEADERS.items()},
            "securitySchemes": _security_schemes(),
        },
    }
    _drop_unused(document)
    return document


def _drop_unused(document: dict[str, Any]) -> None:
    """Remove the components that nothing refers to, and those that only these refer to."""
    components = document["components"]
    while True:
        used = set(_references(document))
        unused = [
            (kind, name)
            for kind in ("schemas", "responses")
            for name in components[kind]
            if f"#/components/{kind}/{name}" not in used
        ]
        if not unused:
            return
        for kind, name in unused:
            del components[kind][name]


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def _operation(route: DescribedRoute) -> dict[str, Any]:
    row, example = OPERATIONS.get(route.name, Operation()), example_of(route.name)
    summary, _, details = route.sentence.partition("\n\n")
    operation: dict[str, Any] = {
        "operationId": f"{route.name.replace('.', '_')}_{route.method.lower()}",
        "tags": [route.name.partition(".")[0]],
        "summary": " ".join(summary.split()),
        "parameters": [
            *_path_parameters(route.path, example.path),
            *(_with_example(parameter, example.query) for parameter in row.parameters),
            *((IDEMPOTENCY_KEY,) if route.is_repeatable else ()),
        ],
        "responses": _responses(route, row),
        "security": _security(route.policy),
    }
    if details:
        operation["description"] = " ".join(details.split())
    if route.policy.scope is not None:
        operation["x-required-scope"] = route.policy.scope
        operation["x-rate-limit-cost"] = route.policy.cost
    if route.method in _BODY_METHODS:
        content: dict[str, Any] = {media_type: {"schema": row.body or {}} for media_type in row.body_types}
        if example.body is not None:
            content[row.body_types[-1]]["example"] = example.body
        operation["requestBody"] = {"required": row.body is not None, "content": content}
    return operation


def _path_parameters(path: str, given: Mapping[str, str]) -> list[dict[str, Any]]:
    schema = {"type": "string", "minLength": 1}
    values = {**PATH_VALUES, **MADE_VALUES, **given}
    return [
        {"name": name, "in": "path", "required": True, "schema": schema, "example": values[name]}
        for name in re.findall(r"\{(\w+)\}", path)
    ]


def _with_example(parameter: Parameter, given: Mapping[str, str]) -> Parameter:
    text = given.get(parameter["name"])
    if text is None:
        return parameter
    kind = parameter["schema"].get("type")
    value = text.split(",") if kind == "array" else float(text) if kind == "number" else text
    return {**parameter, "example": int(text) if kind == "integer" else value}


def _responses(route: DescribedRoute, row: Operation) -> dict[str, Any]:
    if route.is_websocket:
        responses: dict[str, Any] = {"101": {"description": "The connection becomes a WebSocket."}}
    else:
        responses = {str(status): _success(route, row, status) for status in row.statuses}
    if row.is_conditional:
        responses["304"] = {"description": "The caller has this version already (If-None-Match)."}
    surface = _surface(route.path)
    for status in sorted(set(_error_statuses(route))):
        responses[str(status)] = {"$ref": f"#/components/responses/{surface}{status}"}
    if route.path in HEALTH_PATHS:
        content = {"application/json": {"schema": HEALTH}}
        responses["503"] = {"description": "Unavailable.", "headers": _headers(route, row), "content": content}
    return responses


def _success(route: DescribedRoute, row: Operation, status: int) -> dict[str, Any]:
    described: dict[str, Any] = {"description": "Success.", "headers": _headers(route, row)}
    data = row.data if row.data is not None else ANSWERS.get(route.name)
    if (route.name, status) in BODILESS:
        return described
    if route.name in OTHER_ANSWERS:
        described["content"] = {"application/json": {"schema": OTHER_ANSWERS[route.name]}}
        if route.name.startswith("otlp."):
            described["content"]["application/x-protobuf"] = {"schema": {}}
    elif route.name in FILES:
        described["content"] = {FILES[route.name]: {"schema": {"type": "string"}}}
    elif data is not None:
        schema = envelope(data, is_paged=row.is_paged or route.name in PAGED)
        described["content"] = {"application/json": {"schema": schema}}
    elif row.media_types:
        described["content"] = {name: {"schema": {}} for name in row.media_types}
    elif route.path.startswith("/api/v1/"):
        described["content"] = {"application/json": {"schema": {"type": "object"}}}
    return described


def _headers(route: DescribedRoute, row: Operation) -> dict[str, Any]:
    names = ["X-Request-ID"]
    if route.policy.scope is not None:
        names += OF_LIMITED_ROUTES
    if row.is_conditional:
        names.append("ETag")
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _error_statuses(route: DescribedRoute) -> Iterable[int]:
    yield from _OF_EVERY_ROUTE
    if route.policy.scope is not None or route.path.startswith("/oauth/"):
        yield from _OF_DATA
    if route.policy.is_document:
        yield 429
    if route.path in HEALTH_PATHS:
        yield 503
    if "{" in route.path or route.method == "DELETE":
        yield from _OF_PATHS
    if "{export_id}" in route.path:
        yield _OF_EXPORTS
    if route.method in _BODY_METHODS:
        yield from _OF_BODIES
    if route.is_websocket:
        yield _OF_WEBSOCKETS


def _security(policy: AccessPolicy) -> list[dict[str, list[str]]]:
    if policy.scope is None:
        return []
    return [{"oauth": [policy.scope]}, {"bearer": []}, {"apiKey": []}]


def _security_schemes() -> dict[str, Any]:
    scopes = {name: rule.sentence for name, rule in SCOPES.items()}
    return {
        "oauth": {"type": "oauth2", "flows": {"clientCredentials": {"tokenUrl": "/oauth/token", "scopes": scopes}}},
        "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
        "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }


_PROBLEM: Final[Schema] = {"application/problem+json": reference("Problem")}
_PLAIN: Final[Schema] = {"text/plain": {"type": "string"}}
# Surfaces by path prefix, with the schemas of an error's body by media type. The first match counts.
_SURFACES: Final[dict[str, tuple[str, dict[str, Schema]]]] = {
    "Grafana": ("/grafana", {"application/json": reference("GrafanaError")}),
    "Otlp": ("/v1/", {"application/json": reference("RpcStatus"), "application/x-protobuf": {}}),
    "Jaeger": ("/jaeger/", {"application/json": reference("JaegerError"), **_PLAIN}),
    "Prometheus": ("/prometheus/", {"application/json": reference("PrometheusError")}),
    "Tempo": ("/tempo/", _PLAIN),
    "OAuth": ("/oauth/", {"application/json": reference("OAuthError"), **_PROBLEM}),
    "Problem": ("", _PROBLEM),
}
_STATUSES: Final = sorted({*_OF_EVERY_ROUTE, *_OF_DATA, *_OF_PATHS, *_OF_BODIES, _OF_EXPORTS, _OF_WEBSOCKETS})


def _surface(path: str) -> str:
    return next(name for name, (prefix, _) in _SURFACES.items() if path.startswith(prefix))


def _error(surface: str, status: int) -> dict[str, Any]:
    _, bodies = _SURFACES[surface]
    kinds = [kind for kind in catalogue() if kind.status == status]
    names = ["X-Request-ID", *(["Retry-After"] if status in (429, 503) else [])]
    described: dict[str, Any] = {
        "description": " ".join(f"{kind.code}: {kind.title()}." for kind in kinds) or "Error.",
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names},
    }
    described["content"] = {media_type: {"schema": schema} for media_type, schema in bodies.items()}
    return described
