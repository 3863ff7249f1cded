"""The cURL command of every route, from the examples of the OpenAPI document."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from sanic import Sanic

from server.app import create_app
from server.rest.openapi.document import TAGS, DescribedRoute, described_routes
from server.rest.openapi.examples import MADE_VALUES, PATH_VALUES, example_of
from server.rest.openapi.operations import OPERATIONS
from server.rest.openapi.other_operations import FORM
from server.settings import Settings

ADDRESS = "http://127.0.0.1:8080"
PLAIN = re.compile(r"[\w.,:/+-]*", re.ASCII)
VARIABLES = {"TOKEN": "$ACCESS_TOKEN", "CLIENT": "$CLIENT_ID", "SECRET": "$CLIENT_SECRET"}
WIDTH = 100


@dataclass(frozen=True)
class Command:
    """One command of the page."""

    route: DescribedRoute
    text: str


def commands() -> Iterator[Command]:
    """Yield a command for every route that cURL can ask: not for WebSockets."""
    settings = Settings(database_url="postgresql://nobody/nothing", jwt_secret="x" * 32)
    app = create_app(settings, name="routes_of_curl")
    if not app.router.finalized:
        app.router.finalize()
    routes = list(described_routes(app))
    Sanic.unregister_app(app)
    for route in routes:
        if not route.is_websocket:
            yield Command(route, _command(route))


def curl_commands() -> str:
    """Return the commands by tag, in the form of the page."""
    found: dict[str, list[Command]] = {}
    for command in commands():
        found.setdefault(command.route.name.partition(".")[0], []).append(command)
    parts = []
    for tag, rows in sorted(found.items()):
        parts.append(f"## {tag.replace('_', ' ')}\n\n{TAGS[tag]}")
        parts += [f"{_sentence(row.route)}\n\n```sh\n{row.text}\n```" for row in rows]
    return "\n\n".join(parts)


def _sentence(route: DescribedRoute) -> str:
    return " ".join(route.sentence.partition("\n\n")[0].split())


def _command(route: DescribedRoute) -> str:
    example = example_of(route.name)
    row = OPERATIONS.get(route.name)
    made = {name: f"${name.upper()}" for name in MADE_VALUES}
    values = {**PATH_VALUES, **made, **example.path}
    path = re.sub(r"\{(\w+)\}", lambda match: values[match[1]], route.path)
    words = ["curl"]
    if route.path == "/api/v1/traces/live":
        words.append("-N")
    if route.method != "GET":
        words.append(f"-X {route.method}")
    if route.policy.scope is not None:
        words.append('-H "Authorization: Bearer $TOKEN"')
    address, more = f"{ADDRESS}{path}", []
    if all(PLAIN.fullmatch(name + value) for name, value in example.query.items()):
        query = "&".join(f"{quote(name)}={value}" for name, value in example.query.items())
        address += f"?{query}" if query else ""
    else:
        words.append("-G")
        more = [f"--data-urlencode {shlex.quote(f'{name}={value}')}" for name, value in example.query.items()]
    words.append(f'"{address}"')
    words += more
    if route.method in ("POST", "PUT", "QUERY"):
        words += _body(example.body, row.body_types if row else ("application/json",))
    return _wrapped(words)


def _body(body: Any, media_types: tuple[str, ...]) -> list[str]:
    if FORM in media_types:
        pairs = [(name, value) for name, given in (body or {}).items() for value in _listed(given)]
        return [f"--data-urlencode {_shown(f'{name}={VARIABLES.get(value, value)}')}" for name, value in pairs]
    if body is None:
        return []
    text = json.dumps(body, indent=2) if len(json.dumps(body)) > WIDTH - 10 else json.dumps(body)
    return ['-H "Content-Type: application/json"', f"-d {shlex.quote(text)}"]


def _listed(given: Any) -> list[str]:
    return [str(item) for item in given] if isinstance(given, list) else [str(given)]


def _shown(text: str) -> str:
    return f'"{text}"' if "$" in text else shlex.quote(text)


def _wrapped(words: list[str]) -> str:
    one = " ".join(words)
    return one if len(one) <= WIDTH and "\n" not in one else " \\\n  ".join(words)
