"""The order by meaning that a list question may ask for, and the parts of its filter that go with it.

``meaning`` and ``like`` are comparisons in form only: they choose no rows but put them in an order. So their place is
the top of a filter, or its outermost ``and``; so is that of a ``search`` that finds further rows beside them.
"""

from __future__ import annotations

from dataclasses import dataclass

from server.queries.filters.filter_tree import And, Filter, Leaf, leaves
from server.queries.filters.operators import OPERATORS
from server.queries.filters.span_fields import TraceField


@dataclass(frozen=True, slots=True)
class Ranking:
    """The comparison that rows are near by, the words that find them too, and the filter that all of them pass."""

    by: Leaf
    search: Leaf | None
    rest: Filter | None


def ranking_of(tree: Filter | None) -> Ranking | None:
    """Return the order by meaning that ``tree`` asks for, if any.

    :raises ValueError: it is where it cannot be, or there are two of them.
    """
    if tree is None:
        return None
    asked = [leaf for leaf in leaves(tree) if is_ranking(leaf)]
    if not asked:
        return None
    if len(asked) > 1:
        raise ValueError("meaning and like can be asked for once")
    parts = tree.parts if isinstance(tree, And) else (tree,)
    by = next((part for part in parts if is_ranking(part)), None)
    if not isinstance(by, Leaf):
        raise ValueError(f"{asked[0].operator} belongs to the top of a filter or its outermost `and`")
    search = next((part for part in parts if _is_search(part)), None)
    others = tuple(part for part in parts if part is not by and part is not search)
    rest = None if not others else others[0] if len(others) == 1 else And(others)
    return Ranking(by, search if isinstance(search, Leaf) else None, rest)


def joined(*parts: Filter | None) -> Filter | None:
    """Return the filter that all ``parts`` pass; None for none."""
    flat = tuple(
        item for part in parts if part is not None for item in (part.parts if isinstance(part, And) else (part,))
    )
    return None if not flat else flat[0] if len(flat) == 1 else And(flat)


def is_ranking(part: Filter) -> bool:
    """Return whether ``part`` is ``meaning`` or ``like``."""
    return isinstance(part, Leaf) and isinstance(part.field, TraceField) and OPERATORS[part.operator].is_ranking


def _is_search(part: Filter) -> bool:
    return isinstance(part, Leaf) and part.operator == "search"
