"""Values inside a record, by paths with dots.

Exports hold the same member nested, flat with dots in its name, or as JSON text in a cell: one path finds it in each
form.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from server.imports.rows import Record, parsed

_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
EMPTY: Final[tuple[Any, ...]] = (None, "", {}, [])


def first_of(record: Record, paths: Sequence[str]) -> Any:
    """Return the first value at one of ``paths`` that is not empty, or None."""
    for path in paths:
        value = value_at(record, path)
        if value not in EMPTY:
            return value
    return None


def value_at(value: Any, path: str) -> Any:
    """Return the value at ``path`` (members and positions), or None."""
    value = opened(value)
    if isinstance(value, list):
        head, _, rest = path.partition(".")
        if not head.isdigit() or int(head) >= len(value):
            return None
        return value_at(value[int(head)], rest) if rest else value[int(head)]
    if not isinstance(value, dict):
        return None
    if path in value:
        return value[path]
    # Names may contain dots: take the shortest head that exists and leads to a value.
    for position in (match.start() for match in re.finditer(r"\.", path)):
        if path[:position] in value:
            found = value_at(value[path[:position]], path[position + 1 :])
            if found is not None:
                return found
    return None


def opened(value: Any) -> Any:
    """Return the object or list in ``value`` if it is JSON text of one, else ``value``."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return parsed(value)
        except (ValueError, RecursionError):
            return value
    return value


def members_below(record: Record, prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield name and value of all members below ``prefix``, nested or flat; an empty prefix means all."""
    if not prefix:
        yield from record.items()
        return
    inner = opened(record.get(prefix))
    if inner is None and "." in prefix:
        inner = opened(value_at(record, prefix))
    if isinstance(inner, dict):
        yield from inner.items()
    head = f"{prefix}."
    for name, value in record.items():
        if name.startswith(head):
            yield name[len(head) :], value


def flattened(name: str, value: Any, whole: frozenset[str]) -> Iterator[tuple[str, Any]]:
    """Yield the leaves of ``value`` with dotted names; those in ``whole`` and lists of plain values are leaves."""
    if name not in whole and isinstance(value, dict):
        for key, inner in value.items():
            yield from flattened(f"{name}.{key}", inner, whole)
    elif name not in whole and isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for position, inner in enumerate(value):
            yield from flattened(f"{name}.{position}", inner, whole)
    else:
        yield name, value


def snake_case(record: Record) -> Record:
    """Return ``record`` with its top-level members renamed from ``likeThis`` to ``like_this``."""
    return {_CAMEL.sub("_", name).lower(): value for name, value in record.items()}
