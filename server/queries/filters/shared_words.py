"""The shared parts that contain the words of a search, found before the search itself, so that it can use their ids.

A rare word is in few parts, and an index leads from these to their spans. With a common word, spans are compared with
the ids of its parts one by one, newest first, which soon finds enough of them.

The words of parts are in segments (:mod:`server.queries.filters.word_postings`). Weeks from before there were any have
them in the parts themselves, where the database finds them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg

from server.distribution_settings import NONE
from server.queries.filters.filter_tree import And, Filter, Has, Leaf, Not, Or, leaves
from server.queries.filters.operators import SEARCHES
from server.queries.filters.search_text import search_query
from server.queries.filters.time_range import TimeRange
from server.queries.filters.word_lookup import Hits, bounds_of, ranks_of, read_hits
from server.storage.row_scope import RowScope
from server.storage.statements import statement

MOST_PARTS: Final = 500
"""Most parts that an index is asked for: without one, a row is compared with each of them."""
MOST_TERMS: Final = 20
"""Most words and phrases that are looked up in the parts themselves; for more, each row is looked at."""
HAS_MARGIN: Final = timedelta(days=1)
"""How far outside the requested window to look for the other spans of a trace or session."""

NO_PARTS: Final = "{}"
_FIRST: Final = datetime(1999, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(2101, 1, 1, tzinfo=UTC)
"""The years of spans, and more."""


@dataclass(frozen=True, slots=True)
class FoundParts:
    """The parts that have a word or phrase."""

    ids: str = NO_PARTS
    """As PostgreSQL writes an array."""
    count: int = 0
    is_many: bool = False
    """More than an index should be asked for."""
    is_complete: bool = True
    """False: parts with their words in themselves have to be looked at, row by row."""


class SearchedText(str):
    """The text of a search, and the parts that contain its words."""

    found: Mapping[str, FoundParts] = {}
    """By word or phrase."""
    ranks: Mapping[str, float] = {}
    """What each part adds to the rank of its span, by id, if that was asked for."""

    @classmethod
    def of(cls, text: str, found: Mapping[str, FoundParts], ranks: Mapping[str, float] | None = None) -> SearchedText:
        """Return ``text`` with the parts that were found."""
        searched = cls(text)
        searched.found, searched.ranks = found, ranks or {}
        return searched


async def find_shared_words(
    connection: asyncpg.Connection,
    scope: RowScope,
    tree: Filter | None,
    window: TimeRange,
    *,
    distribution: str,
    is_ranked: bool = False,
) -> Filter | None:
    """Return ``tree`` with its searches as :class:`SearchedText`, in the transaction that will use it.

    ``window``: of the spans that are searched; those of ``has`` may lie a day outside. ``distribution``: how tables are
    spread; where they are, no content is shared. ``is_ranked``: the ranks of parts are needed.
    """
    if tree is None or not scope.may_read_content:
        return tree
    searches = [search_query(leaf.value) for leaf in leaves(tree) if leaf.operator in SEARCHES]
    terms = {term.operand(): term for query in searches for part in query.alternatives for term in part}
    if not terms:
        return tree
    if distribution != NONE:
        none = dict.fromkeys(terms, FoundParts())
        return _mapped(tree, lambda text: SearchedText.of(text, none))
    start = _FIRST if window.start is None else window.start - HAS_MARGIN
    end = _LAST if window.end is None else window.end + HAS_MARGIN
    lows, highs = bounds_of(terms.values())
    most = MOST_PARTS if len(terms) <= MOST_TERMS else -1
    rows = await connection.fetch(
        statement("find_words"), list(scope.projects), start, end, most, list(terms), lows, highs
    )
    elsewhere = {row["place"]: row["parts"] for row in rows if row["place"] is not None}
    hits = await read_hits(connection, [row for row in rows if row["place"] is None], terms, is_ranked=is_ranked)
    found = {term: _together(hits.get(term), elsewhere.get(place, NO_PARTS)) for place, term in enumerate(terms, 1)}

    def searched(text: str) -> SearchedText:
        asked = [term.operand() for part in search_query(text).alternatives for term in part if not term.negated]
        ranks = ranks_of([hits[term] for term in asked if term in hits]) if is_ranked else None
        return SearchedText.of(text, found, ranks)

    return _mapped(tree, searched)


def _together(hits: Hits | None, elsewhere: str | None) -> FoundParts:
    """Return the parts of segments and, as PostgreSQL writes an array, others; None for too many others."""
    ids = [] if hits is None else hits.ids()
    if elsewhere is not None and elsewhere != NO_PARTS:
        ids += elsewhere[1:-1].split(",")
    return FoundParts(f"{{{','.join(ids)}}}", len(ids), len(ids) > MOST_PARTS, elsewhere is not None)


def _mapped(tree: Filter, change: Callable[[str], str]) -> Filter:
    """Return ``tree`` with its searches changed."""
    match tree:
        case And(parts) | Or(parts):
            return replace(tree, parts=tuple(_mapped(part, change) for part in parts))
        case Not(part):
            return Not(_mapped(part, change))
        case Has(_, part):
            return replace(tree, part=_mapped(part, change))
        case Leaf(_, operator, value) if operator in SEARCHES:
            return replace(tree, value=change(value))
        case Leaf():
            return tree
