"""Layout of a list's records: the columns to select, and the mapping of a record to a row.

A layout depends only on the view, the fields, the order and the rights, so it is computed once for all requests that
share them. Columns come in the order in which rows show them, followed by further columns that the order needs; a
record becomes a row in one step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import asyncpg
import orjson

from server.queries.filters.span_fields import TYPE_SQL, FieldType, TraceField
from server.queries.lists.keyset import Position, SortKey
from server.queries.lists.list_question import PREVIEW_LENGTH, RANK, VIEWS, Sort, View
from server.queries.lists.part_contents import COLUMNS, ELSEWHERE

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RowLayout:
    """Columns of a list's statements, and the meaning of its records."""

    keys: tuple[SortKey, ...]
    """The order: the requested keys, then the keys that make it total, in the direction of the last requested key."""
    names: tuple[str, ...]
    """The keys of a row. A record has a value for each, followed by the values of sort keys that are not shown."""
    hidden: tuple[str, ...]
    """Fields that were requested but that the caller may not see: NULL in every record."""
    columns: str
    """The select list over ``t``."""
    key_columns: str
    """The select list over ``t`` of the sort keys alone."""
    cut_columns: str
    """The select list over ``t`` with the first characters of clipped fields, and one more if there are more."""
    late_columns: str
    """The select list over ``t`` and a ``page`` that was read with :attr:`key_columns`."""
    same_row: str
    """The predicate that finds a row of ``page`` again in ``t``."""
    clipped: tuple[str, ...]
    """Fields of which rows have only the first characters."""
    preview_columns: str
    """The same over a ``page`` that was read with :attr:`columns`, so that only rows of the page are unpacked, however
    they are sorted.
    """
    is_heavy: bool
    """Whether it is cheaper to sort only the keys and then fetch the columns of the page than to sort all columns. It
    is not for spans without large columns: planning the join over partitions takes 3 ms.
    """
    in_parts: tuple[str, ...]
    """Fields whose value is selected only if it is in the row itself. For values in parts, records have what
    :func:`server.queries.lists.part_contents.fill_contents` needs.
    """
    _documents: tuple[str, ...]
    _key_places: tuple[int, ...]

    def rows(self, records: Sequence[asyncpg.Record]) -> list[Row]:
        """Return one row per record; JSON columns as the values that they hold."""
        names = self.names
        rows: list[Row] = [dict(zip(names, record, strict=False)) for record in records]
        for name in self._documents:
            for row in rows:
                if row[name] is not None:
                    row[name] = orjson.loads(row[name])
        return rows

    def clip(self, rows: Sequence[Row]) -> tuple[str, ...]:
        """Cut the clipped texts of ``rows``; return the names of the fields in which a text was longer."""
        cut = []
        for name in self.clipped:
            longer = [row for row in rows if row[name] is not None and len(row[name]) > PREVIEW_LENGTH]
            for row in longer:
                row[name] = row[name][:PREVIEW_LENGTH]
            if longer:
                cut.append(name)
        return tuple(cut)

    def position(self, record: asyncpg.Record) -> Position:
        """Return the position of a list after ``record``: the values of its sort keys."""
        return tuple([record[place] for place in self._key_places])

    def key_values(self, record: asyncpg.Record) -> Row:
        """Return the sort keys of ``record`` by name; they always include those that distinguish it from all others."""
        return {key.name: record[place] for key, place in zip(self.keys, self._key_places, strict=True)}


@lru_cache(maxsize=256)
def row_layout(
    view_name: str,
    selected: tuple[str, ...],
    sort: tuple[Sort, ...],
    may_read_content: bool,
    rank: str | None,
    clipped: tuple[str, ...] = (),
    *,
    reads_parts: bool = False,
) -> RowLayout:
    """Return the layout of rows with the fields ``selected`` in the order ``sort``. ``rank``: the SQL of the search
    rank; ``clipped``: the fields that are shown in part. ``reads_parts``: the caller itself reads contents that are in
    parts (:attr:`RowLayout.in_parts`).
    """
    view = VIEWS[view_name]
    keys = _total_order(view, sort, rank)
    fields = [view.fields[name] for name in selected]
    hidden = tuple(field.name for field in fields if field.is_content and not may_read_content)
    in_parts = tuple(name for name in selected if reads_parts and name in ELSEWHERE and name not in hidden)
    shown = {
        field.name: "NULL"
        if field.name in hidden
        else f"t.{field.name}"
        if field.name in in_parts
        else field.expression()
        for field in fields
    }
    names = (*selected, RANK) if keys[0].name == RANK else selected
    beside = {key.name: key.expression for key in keys if key.name not in shown}
    if keys[0].name == RANK:
        beside = {RANK: beside[RANK], **beside}  # shown in rows: the first of the columns beyond the fields
    content = {name: expression.format(t="t") for name, expression in COLUMNS.items()} if in_parts else {}
    own = {**shown, **beside, **content}
    places = list(own)
    clipped = tuple(name for name in clipped if name not in hidden)
    return RowLayout(
        keys,
        names,
        hidden,
        columns=_select_list(own),
        cut_columns=_select_list(
            {name: _beginning(value) if name in clipped else value for name, value in own.items()}
        ),
        key_columns=_select_list({key.name: key.expression for key in keys}),
        late_columns=_select_list({**shown, **{name: f"page.{name}" for name in beside}, **content}),
        same_row=" AND ".join(f"{view.fields[name].expression()} = page.{name}" for name in view.tie_breakers),
        clipped=clipped,
        preview_columns=_select_list(
            {name: _beginning(f"page.{name}") if name in clipped else f"page.{name}" for name in places}
        ),
        is_heavy=not view.is_partitioned
        or any(field.is_large for field in fields if field.name not in hidden and field.name not in clipped),
        in_parts=in_parts,
        _documents=tuple(field.name for field in fields if field.type is FieldType.JSON and field.name not in hidden),
        _key_places=tuple(places.index(key.name) for key in keys),
    )


def _total_order(view: View, sort: tuple[Sort, ...], rank: str | None) -> tuple[SortKey, ...]:
    keys = [_sort_key(view, key.field, key.descending, rank) for key in sort]
    asked = {key.name for key in keys}
    descending = keys[-1].descending
    return (*keys, *(_sort_key(view, name, descending, rank) for name in view.tie_breakers if name not in asked))


def _sort_key(view: View, name: str, descending: bool, rank: str | None) -> SortKey:
    if name == RANK and rank is not None:
        return SortKey(RANK, rank, "double precision", descending)
    field: TraceField = view.fields[name]
    return SortKey(name, field.expression(), TYPE_SQL[field.type], descending, field.nullable)


def _select_list(expressions: dict[str, str]) -> str:
    return ", ".join(f"{expression} AS {name}" for name, expression in expressions.items())


def _beginning(text: str) -> str:
    return f"left({text}, {PREVIEW_LENGTH + 1})"
