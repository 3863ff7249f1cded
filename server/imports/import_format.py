"""The table of a tool's export: the rows that are spans, traces or scores, and the path of each of their parts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Final

from server.imports.paths import first_of, value_at
from server.imports.rows import Record

Paths = tuple[str, ...]
TOOLS: Final = ("langfuse", "phoenix", "mlflow", "langsmith", "helicone")


@dataclass(frozen=True, slots=True)
class RowKind:
    """One kind of row. All paths in ``has`` have a value in such a row; ``paths`` lead to its parts.

    Where two kinds have the same members, ``where`` tells them apart.
    """

    kind: str
    has: Paths
    paths: Mapping[str, Paths]
    """By part: ``trace_id``, ``span_id``, ``parent_id``, ``name``, ``start``, ``end``, ``status``, ``value`` …

    A row that has a ``failure`` has failed.
    """
    attributes: Mapping[str, Paths] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)
    where: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By path, the values that the row may have there."""
    otherwise: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Amounts that are read only if another attribute is missing: ``{"without": ATTRIBUTE, "from": PATHS}``.

    An amount of 0 is left out: tools write it where they know of none.
    """
    alone: Mapping[str, Any] = field(default_factory=dict)
    """Attributes of the span that is made from a trace without spans: paths, or a literal text."""
    copied: Mapping[str, str] = field(default_factory=dict)
    """Members whose members become attributes, with the prefix of their names."""
    only_for: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Attributes that count only if another attribute has one of ``values``."""
    placeholders: Mapping[str, str] = field(default_factory=dict)
    """Attributes with the path whose presence says that the tool wrote words of its own in the value's place."""
    whole: frozenset[str] = frozenset()
    left_out: frozenset[str] = frozenset()
    flatten: bool = True
    errors: frozenset[str] = frozenset()
    sources: Mapping[str, str] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)
    score_members: Mapping[str, Paths] = field(default_factory=dict)

    def fits(self, record: Record) -> bool:
        """Return whether ``record`` is of this kind."""
        return all(first_of(record, (path,)) is not None for path in self.has) and all(
            value_at(record, path) in values for path, values in self.where.items()
        )

    def part(self, record: Record, name: str) -> Any:
        """Return the part ``name`` of ``record``, or None."""
        return first_of(record, self.paths.get(name, ()))


@dataclass(frozen=True, slots=True)
class Container:
    """Rows that contain lists of spans and scores; all of their spans get ``attributes``."""

    spans: Paths
    scores: Paths
    attributes: Mapping[str, Paths]


@dataclass(frozen=True, slots=True)
class ImportFormat:
    """The table of one tool. A row is of the first of ``kinds`` that fits it."""

    tool: str
    title: str
    about: str
    scope: str
    ids: tuple[str, ...]
    kinds: tuple[RowKind, ...]
    containers: tuple[Container, ...] = ()
    service: Paths = ()
    snake_case: bool = False

    def kind_of(self, record: Record) -> RowKind | None:
        """Return the kind of ``record``, or None."""
        return next((kind for kind in self.kinds if kind.fits(record)), None)

    def has_kind(self, name: str) -> bool:
        """Return whether rows of the kind ``name`` exist."""
        return any(kind.kind == name for kind in self.kinds)


_PARTS: Final = (
    "trace_id", "span_id", "parent_id", "name", "start", "end", "duration_ms", "status", "http_status", "failure",
    "message", "events", "first_token", "score_id", "type", "value", "text", "source", "comment", "time",
    "scores_by_name",
)  # fmt: skip
_TABLES: Final = ("attributes", "score_members")
_MAPPINGS: Final = (
    "constants", "where", "otherwise", "alone", "copied", "only_for", "placeholders", "sources", "types",
)  # fmt: skip
_SETS: Final = ("whole", "left_out", "errors")


@cache
def import_format(tool: str) -> ImportFormat:
    """Return the table of ``tool``."""
    table: dict[str, Any] = json.loads(files(__package__).joinpath(f"formats/{tool}.json").read_text(encoding="utf-8"))
    return ImportFormat(
        tool=table["tool"],
        title=table["title"],
        about=table["about"],
        scope=table["scope"],
        ids=tuple(table["ids"]),
        kinds=tuple(map(_row_kind, table["kinds"])),
        containers=tuple(
            Container(tuple(item["spans"]), tuple(item["scores"]), _paths(item["attributes"]))
            for item in table.get("containers", ())
        ),
        service=tuple(table.get("service", ())),
        snake_case=table.get("snake_case", False),
    )


def _row_kind(table: dict[str, Any]) -> RowKind:
    more: dict[str, Any] = {name: _paths(table[name]) for name in _TABLES if name in table}
    more |= {name: table[name] for name in _MAPPINGS if name in table}
    more |= {name: frozenset(table[name]) for name in _SETS if name in table}
    unknown = table.keys() - {"is", "has", "flatten", *_PARTS, *more}
    if unknown:
        raise ValueError(f"unknown members in a table of imports: {sorted(unknown)}")
    return RowKind(
        kind=table["is"],
        has=tuple(table["has"]),
        paths=_paths({name: table[name] for name in _PARTS if name in table}),
        flatten=table.get("flatten", True),
        **more,
    )


def _paths(table: Mapping[str, list[str]]) -> dict[str, Paths]:
    return {name: tuple(paths) for name, paths in table.items()}
