"""The shared parts that contain the words of a search, found before the search itself, so that it can use their ids.

A rare word is in few parts, and an index leads from these to their spans. A common word is in too many parts to name:
then spans are examined one by one, newest first, which soon finds enough of them. Only the database knows how common a
word is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

import asyncpg

from server.queries.filters.filter_tree import And, Filter, Has, Leaf, Not, Or, leaves
from server.queries.filters.search_text import search_query
from server.queries.filters.time_range import TimeRange
from server.storage.row_scope import RowScope
from server.storage.statements import statement

MOST_PARTS: Final = 500
"""Most parts that are named: without an index, a row is compared with each of them."""
MOST_TERMS: Final = 20
"""Most words and phrases that are looked up; a filter with more is answered without a lookup."""

Parts = Mapping[str, Sequence[UUID] | None]
"""Ids of parts by word or phrase; None: too many to name."""


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
    connection: asyncpg.Connection, scope: RowScope, tree: Filter | None, window: TimeRange
) -> Filter | None:
    """Return ``tree`` with its searches as :class:`SearchedText`, in the transaction that will use it. Within ``has``
    the database looks the words up itself, because other spans of the trace may lie outside ``window``.
    """
    if tree is None or not scope.may_read_content:
        return tree
    searches = [search_query(leaf.value) for leaf in leaves(tree) if leaf.operator == "search"]
    asked = [term.operand() for query in searches for part in query.alternatives for term in part]
    if not 0 < len(asked) <= MOST_TERMS:
        return tree
    terms = list(dict.fromkeys(asked))
    params: list[Any] = [list(scope.projects), window.start, window.end, MOST_PARTS + 1, *terms]
    branches = [statement("find_parts").replace("{term}", str(place)).replace("{word}", f"${place + 4}::text")
                for place in range(1, len(terms) + 1)]  # fmt: skip
    found: dict[str, Sequence[UUID] | None] = {}
    for term, row in zip(
        terms, await connection.fetch(" UNION ALL ".join(branches) + " ORDER BY term", *params), strict=True
    ):
        parts = row["parts"] or []
        found[term] = parts if len(parts) <= MOST_PARTS else None
    return _mapped(tree, lambda text: SearchedText.of(text, found))


def _mapped(tree: Filter, change: Callable[[str], str]) -> Filter:
    match tree:
        case And(parts) | Or(parts):
            return replace(tree, parts=tuple(_mapped(part, change) for part in parts))
        case Not(part):
            return Not(_mapped(part, change))
        case Leaf(_, "search", value):
            return replace(tree, value=change(value))
        case Has() | Leaf():
            return tree
