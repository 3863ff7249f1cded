"""Keyset paging over any list of sort keys.

A page continues after the *position* of the last row of the previous page: the values of its sort keys. No rows are
counted or skipped, so page 1,000 costs as much as page 1, and rows that come or go between two pages do not shift the
others. See docs/explanation/pagination.md.

Rows without a value come last in both directions. If the first key may be missing, a list is read as two *segments*,
the rows with a value and then those without, because an index serves each of them but not both together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

Position = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class SortKey:
    """One key of an order: an SQL expression over the row ``t``, its type, and how it is sorted."""

    name: str
    expression: str
    sql_type: str
    descending: bool
    nullable: bool = False
    is_filled: bool = False
    """The column may be NULL, but the segment only has rows with a value."""

    @property
    def direction(self) -> str:
        """ASC or DESC."""
        return "DESC" if self.descending else "ASC"

    def order(self, expression: str | None = None) -> str:
        """Return the ORDER BY item, optionally over another expression."""
        return f"{expression or self.expression} {self.direction}{self.nulls}"

    @property
    def nulls(self) -> str:
        """The place of missing values. In a segment without any it only has to match the index, which has them last in
        one direction and therefore first in the other.
        """
        if self.is_filled:
            return " NULLS LAST" if self.descending else " NULLS FIRST"
        return " NULLS LAST" if self.nullable else ""


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of the list that one statement reads: rows (``predicate``) in an order (``keys``)."""

    keys: tuple[SortKey, ...]
    predicate: str
    params: tuple[Any, ...]

    def order_by(self) -> str:
        """Return the ORDER BY list over the row ``t``."""
        return ", ".join(key.order() for key in self.keys)

    def cut(self, head: SortKey, value: Any, first_bind: int) -> list[Segment]:
        """Split this segment at ``value`` of ``head``, the first key, which is never missing. ``first_bind`` is the
        number of the first placeholder.
        """
        place = f"${first_bind + len(self.params)}::{head.sql_type}"
        signs = (">=", "<") if head.descending else ("<", ">=")
        return [
            replace(
                self,
                predicate=f"{self.predicate} AND {head.expression} {sign} {place}",
                params=(*self.params, value),
            )
            for sign in signs
        ]


def segments(keys: Sequence[SortKey], position: Position | None, first_bind: int) -> list[Segment]:
    """Return the parts of the list after ``position`` (None: from the start), in order.

    ``first_bind`` is the number of the first free placeholder; each segment is a statement of its own and counts from
    there. The last key must be unique and never missing.
    """
    head, rest = keys[0], tuple(keys[1:])
    if not head.nullable:
        return [_segment(tuple(keys), "", position, first_bind)]
    valued = replace(head, nullable=False, is_filled=True)
    has_value, has_none = f"{head.expression} IS NOT NULL", f"{head.expression} IS NULL"
    if position is not None and position[0] is None:
        return [_segment(rest, has_none, position[1:], first_bind)]
    return [
        _segment((valued, *rest), has_value, position, first_bind),
        _segment(rest, has_none, None, first_bind),
    ]


def _segment(keys: tuple[SortKey, ...], condition: str, position: Position | None, first_bind: int) -> Segment:
    if position is None:
        return Segment(keys, condition or "true", ())
    binds: list[Any] = []

    def bind(value: Any, sql_type: str) -> str:
        binds.append(value)
        return f"${first_bind + len(binds) - 1}::{sql_type}"

    after = _after(keys, position, bind)
    return Segment(keys, f"{condition} AND {after}" if condition else after, tuple(binds))


def _after(keys: Sequence[SortKey], position: Position, bind: Any) -> str:
    """Return the predicate for rows after ``position``. If possible it begins with a bound on the first key alone:
    indexes start there, and it prunes partitions.
    """
    head, value = keys[0], position[0]
    bound = ""
    if not head.nullable:
        bound = f"{head.expression} {'<=' if head.descending else '>='} {bind(value, head.sql_type)} AND "
    if not any(key.nullable for key in keys) and len({key.descending for key in keys}) == 1:
        placeholders = ", ".join(bind(value, key.sql_type) for key, value in zip(keys, position, strict=True))
        sign = "<" if head.descending else ">"
        return f"{bound}({', '.join(key.expression for key in keys)}) {sign} ({placeholders})"
    predicate = ""
    for key, value in reversed(list(zip(keys, position, strict=True))):
        predicate = _after_one(key, value, predicate, bind)
    return bound + predicate


def _after_one(key: SortKey, value: Any, later: str, bind: Any) -> str:
    """Return the predicate for rows beyond ``value`` in ``key``, or equal in it and after the position in the ``later``
    keys.
    """
    if value is None:
        # Missing values come last, so only other missing values follow, in the order of the later keys.
        return f"({key.expression} IS NULL AND {later})" if later else "false"
    placeholder = bind(value, key.sql_type)
    beyond = f"{key.expression} {'<' if key.descending else '>'} {placeholder}"
    if key.nullable:
        beyond = f"{beyond} OR {key.expression} IS NULL"
    equal = f" OR ({key.expression} = {placeholder} AND {later})" if later else ""
    return f"({beyond}{equal})"
