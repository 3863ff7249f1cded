"""The shared parts that contain the words of a search, found before the search itself, so that it can use their ids.

A rare word is in few parts, and an index leads from these to their spans. A common word is in too many parts to name:
then spans are examined one by one, newest first, which soon finds enough of them. Only the database knows how common a
word is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import asyncpg

from server.distribution_settings import NONE
from server.queries.filters.filter_tree import And, Filter, Has, Leaf, Not, Or, leaves
from server.queries.filters.operators import SEARCHES
from server.queries.filters.search_text import SearchTerm, search_query
from server.queries.filters.time_range import TimeRange
from server.storage.row_scope import RowScope
from server.storage.statements import statement

MOST_PARTS: Final = 500
"""Most parts that lead to their spans through an index: without it, a row is compared with each of them."""
MOST_TOGETHER: Final = 5000
"""Most parts that are named of a word beside others. Spans with all of them may be rare where each is not, so many are
examined, and to find a part among these ids takes a hundredth of the time of a look into its text.
"""
MOST_TERMS: Final = 20
"""Most words and phrases that are looked up; a filter with more is answered without a lookup."""


_EVER: Final = TimeRange(datetime(1999, 1, 1, tzinfo=UTC), datetime(2101, 1, 1, tzinfo=UTC))
"""The years of spans."""

NO_PARTS: Final = "{}"
Parts = Mapping[str, str | None]
"""Ids of parts by word or phrase, as PostgreSQL writes an array; None: too many to name."""


class SearchedText(str):
    """The text of a search, and the parts that contain its words."""

    found: Parts = {}

    @classmethod
    def of(cls, text: str, found: Parts) -> SearchedText:
        """Return ``text`` with the parts that were found."""
        searched = cls(text)
        searched.found = found
        return searched


async def find_shared_words(
    connection: asyncpg.Connection,
    scope: RowScope,
    tree: Filter | None,
    window: TimeRange,
    *,
    distribution: str,
) -> Filter | None:
    """Return ``tree`` with its searches as :class:`SearchedText`, in the transaction that will use it. Within ``has``
    the database looks the words up itself, because other spans of the trace may lie outside ``window``.

    ``distribution``: how tables are spread; where they are, no content is shared.
    """
    if tree is None or not scope.may_read_content:
        return tree
    searches = [search_query(leaf.value) for leaf in leaves(tree) if leaf.operator in SEARCHES]
    terms = {term.operand(): term for query in searches for part in query.alternatives for term in part}
    if distribution != NONE:
        none = dict.fromkeys(terms, NO_PARTS)
        return _mapped(tree, lambda text: SearchedText.of(text, none), with_others=True)
    if not 0 < len(terms) <= MOST_TERMS:
        return tree
    found = await _named(connection, "find_parts", MOST_PARTS, terms, scope, window)
    many = {
        term.operand(): term
        for query in searches
        for part in query.alternatives
        for term in _all_in_many_parts(part, found)
    }
    if many:
        found |= await _named(connection, "find_more_parts", MOST_TOGETHER, many, scope, window)
    return _mapped(tree, lambda text: SearchedText.of(text, found))


async def _named(
    connection: asyncpg.Connection,
    name: str,
    most: int,
    terms: Mapping[str, SearchTerm],
    scope: RowScope,
    window: TimeRange,
) -> dict[str, str | None]:
    """Return the parts that the statement ``name`` finds for each of ``terms``."""
    rows = await connection.fetch(
        statement(name),
        list(scope.projects),
        window.start or _EVER.start,
        window.end or _EVER.end,
        most,
        list(terms),
        [term.lexemes() for term in terms.values()],
        [term.pattern() for term in terms.values()],
    )
    return {operand: row["parts"] for operand, row in zip(terms, rows, strict=True)}


def are_few(parts: str) -> bool:
    """Return whether so few parts are named that an index should lead from them to their spans."""
    return parts.count(",") < MOST_PARTS


def _all_in_many_parts(terms: Sequence[SearchTerm], found: Parts) -> Sequence[SearchTerm]:
    """Return the words and phrases that must be in a span, if they are several, and none of them is in few parts: such
    a one would leave few spans to look into.
    """
    wanted = [term for term in terms if not term.negated]
    return wanted if len(wanted) > 1 and all(found[term.operand()] is None for term in wanted) else ()


def _mapped(tree: Filter, change: Callable[[str], str], *, with_others: bool = False) -> Filter:
    """Return ``tree`` with its searches changed; ``with_others``: those in ``has`` too."""
    match tree:
        case And(parts) | Or(parts):
            return replace(tree, parts=tuple(_mapped(part, change, with_others=with_others) for part in parts))
        case Not(part):
            return Not(_mapped(part, change, with_others=with_others))
        case Has(_, part) if with_others:
            return replace(tree, part=_mapped(part, change, with_others=True))
        case Leaf(_, operator, value) if operator in SEARCHES:
            return replace(tree, value=change(value))
        case Has() | Leaf():
            return tree
