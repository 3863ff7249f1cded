"""The order by meaning that a list question may ask for, and the parts of its filter that go with it.

``meaning`` and ``like`` are comparisons in form only: they do not choose rows but sort them. So they must be at the top
of a filter, or in its outermost ``and``; a ``search`` in the same place finds further rows.
"""

from __future__ import annotations

from dataclasses import dataclass

from server.queries.filters.filter_tree import And, Filter, Leaf, leaves
from server.queries.filters.operators import OPERATORS, SEARCHES
from server.queries.filters.span_fields import TraceField


@dataclass(frozen=True, slots=True)
class Ranking:
    """The comparison that sorts rows, the words that find further rows, and the filter that all rows pass."""

    by: Leaf
    search: Leaf | None
    rest: Filter | None


def ranking_of(tree: Filter | None) -> Ranking | None:
    """Return the order by meaning in ``tree``, if any.

    :raises ValueError: it is in another place, or there is more than one.
    """
    if tree is None:
        return None
    asked = [leaf for leaf in leaves(tree) if is_ranking(leaf)]
    if not asked:
        return None
    if len(asked) > 1:
        raise ValueError("meaning and like can be given only once")
    parts = tree.parts if isinstance(tree, And) else (tree,)
    by = next((part for part in parts if is_ranking(part)), None)
    if not isinstance(by, Leaf):
        raise ValueError(f"{asked[0].operator} must be at the top of a filter or in its outermost `and`")
    search = next((part for part in parts if _is_search(part)), None)
    others = tuple(part for part in parts if part is not by and part is not search)
    rest = None if not others else others[0] if len(others) == 1 else And(others)
    return Ranking(by, search if isinstance(search, Leaf) else None, rest)


def joined(*parts: Filter | None) -> Filter | None:
    """Return the conjunction of ``parts``; None if there are none."""
    flat = tuple(
        item for part in parts if part is not None for item in (part.parts if isinstance(part, And) else (part,))
    )
    return None if not flat else flat[0] if len(flat) == 1 else And(flat)


def is_ranking(part: Filter) -> bool:
    """Return whether ``part`` is ``meaning`` or ``like``."""
    return isinstance(part, Leaf) and isinstance(part.field, TraceField) and OPERATORS[part.operator].is_ranking


def _is_search(part: Filter) -> bool:
    return isinstance(part, Leaf) and part.operator in SEARCHES
