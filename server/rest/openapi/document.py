"""The OpenAPI 3.1 description of the server, built from the tables that the server itself uses.

Paths and methods come from the router, scopes from the access policies, sentences from the handlers, parameters and
rows from the tables of fields, errors from the catalogue. So it cannot drift; tests/contract holds it against the
running server.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from sanic import Sanic

from server.access.principal import SCOPES
from server.errors import catalogue
from server.http.guard import AccessPolicy, access_policy
from server.rest.openapi.operations import OPERATIONS, Operation
from server.rest.openapi.schemas import Schema, component_schemas, envelope, reference
from server.text.json_text import API_VERSION

IMPLIED_METHODS: Final = frozenset({"HEAD", "OPTIONS"})
"""Methods that server/http/implied_methods.py adds to every path; mentioned once in the description, not at each
path.
"""
_PARAMETER: Final = re.compile(r"<(\w+)(?::\w+)?>")
_BODY_METHODS: Final = frozenset({"POST", "PUT", "PATCH", "QUERY"})

# Errors by properties of a route. Every route may also answer 500.
_OF_EVERY_ROUTE: Final = (400, 413, 500)
_OF_DATA: Final = (401, 403, 409, 422, 429, 503, 504)
_OF_PATHS: Final = (404,)
_OF_BODIES: Final = (404, 415)
_OF_WEBSOCKETS: Final = 426


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


def described_routes(app: Sanic[Any, Any]) -> Iterator[DescribedRoute]:
    """Yield every route that the document must have, in order of path and method."""
    found = []
    for route in app.router.routes:
        name = route.name.partition(".")[2]
        policy = access_policy(route.handler)
        if policy is None or route.methods <= IMPLIED_METHODS:
            continue
        path = "/" + _PARAMETER.sub(r"{\1}", route.path)
        # Docstrings write code as ``x``, Markdown (and so OpenAPI) as `x`.
        sentence = (route.handler.__doc__ or "").strip().replace("``", "`")
        is_websocket = hasattr(route.handler, "is_websocket")
        found += [DescribedRoute(path, method, name, sentence, policy, is_websocket) for method in route.methods]
    yield from sorted(found, key=lambda item: (item.path, item.method))


def build_document(app: Sanic[Any, Any]) -> dict[str, Any]:
    """Return the whole description, a JSON document."""
    paths: dict[str, dict[str, Any]] = {}
    for route in described_routes(app):
        # OpenAPI 3.1 has no place for QUERY (3.2 does): an extension of the path item keeps it in the document.
        key = "x-query" if route.method == "QUERY" else route.method.lower()
        paths.setdefault(route.path, {})[key] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "LLM Observatory",
            "version": API_VERSION,
            "description": (
                "Every GET is also there as HEAD, and every path answers OPTIONS. Unknown parameters are errors. "
                "Beside the parameters listed, lists and facets take attribute.KEY, resource.KEY, score.NAME, "
                "min_score.NAME and max_score.NAME."
            ),
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name} for name in sorted({route.name.partition(".")[0] for route in described_routes(app)})],
        "paths": paths,
        "components": {
            "schemas": component_schemas(),
            "responses": {
                f"{surface}{status}": _error(surface, status) for surface in _SURFACES for status in _STATUSES
            },
            "securitySchemes": _security_schemes(),
        },
    }


def _operation(route: DescribedRoute) -> dict[str, Any]:
    row = OPERATIONS.get(route.name, Operation())
    summary, _, details = route.sentence.partition("\n\n")
    operation: dict[str, Any] = {
        "operationId": f"{route.name.replace('.', '_')}_{route.method.lower()}",
        "tags": [route.name.partition(".")[0]],
        "summary": " ".join(summary.split()),
        "parameters": [*_path_parameters(route.path), *row.parameters],
        "responses": _responses(route, row),
        "security": _security(route.policy),
    }
    if details:
        operation["description"] = " ".join(details.split())
    if route.policy.scope is not None:
        operation["x-required-scope"] = route.policy.scope
        operation["x-rate-limit-cost"] = route.policy.cost
    if route.method in _BODY_METHODS:
        content = {media_type: {"schema": row.body or {}} for media_type in row.body_types}
        operation["requestBody"] = {"required": row.body is not None, "content": content}
    return operation


def _path_parameters(path: str) -> list[dict[str, Any]]:
    schema = {"type": "string", "minLength": 1}
    names = re.findall(r"\{(\w+)\}", path)
    return [{"name": name, "in": "path", "required": True, "schema": schema} for name in names]


def _responses(route: DescribedRoute, row: Operation) -> dict[str, Any]:
    if route.is_websocket:
        responses: dict[str, Any] = {"101": {"description": "The connection becomes a WebSocket."}}
    else:
        responses = {str(status): _success(route, row) for status in row.statuses}
    if row.is_conditional:
        responses["304"] = {"description": "The caller has it already (If-None-Match)."}
    surface = _surface(route.path)
    for status in sorted(set(_error_statuses(route))):
        responses[str(status)] = {"$ref": f"#/components/responses/{surface}{status}"}
    return responses


def _success(route: DescribedRoute, row: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {"description": "Success."}
    if row.data is not None:
        schema = envelope(row.data, is_paged=row.is_paged)
        described["content"] = {"application/json": {"schema": schema}}
        if row.is_conditional:
            described["headers"] = {"ETag": {"schema": {"type": "string"}}}
    elif row.media_types:
        described["content"] = {name: {"schema": {}} for name in row.media_types}
    elif route.path.startswith("/api/v1/"):
        described["content"] = {"application/json": {"schema": {"type": "object"}}}
    return described


def _error_statuses(route: DescribedRoute) -> Iterable[int]:
    yield from _OF_EVERY_ROUTE
    if route.policy.scope is not None or route.path.startswith("/oauth/"):
        yield from _OF_DATA
    if route.path in ("/ready", "/health"):
        yield 503
    if "{" in route.path or route.method == "DELETE":
        yield from _OF_PATHS
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


# Surfaces by path prefix: name, media type and schema of an error's body. The first match counts.
_SURFACES: Final[dict[str, tuple[str, str | None, Schema]]] = {
    "Grafana": ("/grafana", "application/json", reference("GrafanaError")),
    "Otlp": ("/v1/", None, {}),
    "Jaeger": ("/jaeger/", "application/json", {}),
    "Prometheus": ("/prometheus/", "application/json", reference("PrometheusError")),
    "Tempo": ("/tempo/", None, {}),
    "OAuth": ("/oauth/", None, reference("OAuthError")),
    "Problem": ("", "application/problem+json", reference("Problem")),
}
_STATUSES: Final = sorted({*_OF_EVERY_ROUTE, *_OF_DATA, *_OF_PATHS, *_OF_BODIES, _OF_WEBSOCKETS})


def _surface(path: str) -> str:
    return next(name for name, (prefix, _, _) in _SURFACES.items() if path.startswith(prefix))


def _error(surface: str, status: int) -> dict[str, Any]:
    _, media_type, schema = _SURFACES[surface]
    kinds = [kind for kind in catalogue() if kind.status == status]
    described: dict[str, Any] = {"description": " ".join(f"{kind.code}: {kind.title()}." for kind in kinds) or "Error."}
    if media_type is not None:
        described["content"] = {media_type: {"schema": schema}}
    return described
