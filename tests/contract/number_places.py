"""Requests with an odd number in one place: each member of each JSON body, each field of each form, each parameter.

The places are those of the OpenAPI document: its examples, and the members and parameters that no example has.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

IN_JSON: Final = (
    "1e18", "1e17", "1e19", "-1e18", "9223372036854775807", "9223372036854775808", "-9223372036854775809", "1e308",
    "1e400", "-1e400", "NaN", "-Infinity", "1e-320", "-0", "-1", "0.5", "9" * 400, "9" * 5000, "2147483648",
    "253402300800", "253402300800000", "-62135596801", '"1e18"', '"NaN"', '"99999999999999999999"', "true", "null",
    "[]", "{}",
)  # fmt: skip
IN_TEXT: Final = (
    "1e18", "-1e18", "9223372036854775807", "9223372036854775808", "1e308", "1e400", "NaN", "-inf", "1e-320", "-0",
    "-1", "0.5", "9" * 400, "2147483648", "253402300800", "253402300800000", "-62135596801", "-99999999999",
    "99999999999", "now-99999999d", "9999999999y", "1_000", "0x10", "+5", "",
)  # fmt: skip
_MARK: Final = "the place of a number"
_PATH_VALUES: Final = {"trace_id": "0" * 31 + "1", "span_id": "0" * 15 + "1", "field": "model", "name": "model"}
_ROUTES_EACH: Final = 2
"""A parameter of the same name is read by the same code: it is tried on two routes of a surface."""


class Sent(NamedTuple):
    """One request."""

    method: str
    path: str
    content_type: str | None = None
    body: str | None = None


def requests_with_numbers(document: Mapping[str, Any], project: str, each: int) -> Iterator[Sent]:
    """Give, for each place, requests with ``each`` of the numbers; neighbouring places have other numbers."""
    in_json, in_text = itertools.cycle(IN_JSON), itertools.cycle(IN_TEXT)
    seen: Counter[tuple[str, str]] = Counter()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if method not in ("get", "post", "put", "delete") or path.endswith(("/live", "/ws")):
                continue
            own = _path(path, project)
            for parameter in operation.get("parameters", ()):
                place = (path.split("/")[1], parameter["name"])
                if parameter["in"] != "query" or seen[place] >= _ROUTES_EACH:
                    continue
                seen[place] += 1
                for number in itertools.islice(in_text, each):
                    yield Sent(method, f"{own}?{urlencode({parameter['name']: number})}")
            for kind, media in operation.get("requestBody", {}).get("content", {}).items():
                for body in _bodies(document, kind, media, in_json, in_text, each):
                    yield Sent(method, own, kind, body)


def _path(path: str, project: str) -> str:
    parts = [part[1:-1] if part.startswith("{") else part for part in path.split("/")]
    return "/".join(project if part.startswith("project") and part != "projects" else _PATH_VALUES.get(part, part)
                    for part in parts)  # fmt: skip


def _bodies(
    document: Mapping[str, Any],
    kind: str,
    media: Mapping[str, Any],
    in_json: Iterator[str],
    in_text: Iterator[str],
    each: int,
) -> Iterator[str]:
    members = _members(document, media.get("schema", {}))
    if "json" in kind:
        example = _example(media)
        whole = {**dict.fromkeys(members, 0), **example} if isinstance(example, dict) else example
        for place in _places(whole):
            alone = place and place[0] not in example if isinstance(example, dict) else False
            base = {**example, place[0]: 0} if alone else example
            for number in itertools.islice(in_json, each):
                yield _with(base, place, number)
    elif "form" in kind:
        form = _example(media) or {}
        for name in {*members, *form}:
            for number in itertools.islice(in_text, each):
                yield urlencode({**form, name: number})


def _example(media: Mapping[str, Any]) -> Any:
    if "example" in media:
        return media["example"]
    return next((item["value"] for item in media.get("examples", {}).values()), {})


def _members(document: Mapping[str, Any], schema: Mapping[str, Any]) -> list[str]:
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return list(schema.get("properties", {}))


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield place
    items = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, item in items:
        yield from _places(item, (*place, key))


def _with(value: Any, place: tuple[Any, ...], number: str) -> str:
    if not place:
        return number
    copy = json.loads(json.dumps(value))
    inner = copy
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = _MARK
    return json.dumps(copy).replace(json.dumps(_MARK), number)
