"""Conditions on the words of a row's parts, in the order in which the database should look at them.

The condition is one operand of OR, so that PostgreSQL keeps its order: what is quick comes first, and what is there for
an index comes last, where few rows still ask for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from server.queries.filters.search_text import SearchTerm
from server.queries.filters.shared_words import NO_PARTS, Parts, are_few
from server.storage.statements import fragment

MOST_COMPARED: Final = 24
"""Most ids with which each part of a row is compared; more are looked up in a table, which takes some microseconds."""

_QUICK, _SLOW, _FOR_THE_INDEX = range(3)


class WordsInParts:
    """Compiles the terms of one search. ``only_new``: parts that are history do not count."""

    def __init__(
        self,
        bind: Callable[[Any, str], str],
        weeks: Callable[[], str],
        alias: str,
        found: Parts,
        *,
        only_new: bool,
    ) -> None:
        """``weeks``: conditions on the weeks that are searched; ``found``: the parts that have each term."""
        self._bind, self._weeks = bind, weeks
        self._alias, self._found, self._only_new = alias, found, only_new
        self._first = f"coalesce({alias}.history_parts, 0) + 1" if only_new else "1"
        # Two bound values for all that are looked for in texts, so that the number of bound values stays within its
        # limit.
        self._unknown: list[str] = []
        self._looks: list[str] = []
        self._places = ("", "", "")

    def any_of(self, alternatives: Iterable[Sequence[SearchTerm]]) -> str:
        """Return the condition that the parts of a row have all terms of one alternative, each in one part."""
        return " OR ".join(f"({self._all_of(terms)})" for terms in alternatives)

    def _all_of(self, terms: Sequence[SearchTerm]) -> str:
        conditions = [condition for term in terms for condition in self._conditions(term, is_one=len(terms) == 1)]
        return " AND ".join(text for _, text in sorted(conditions, key=lambda condition: condition[0]))

    def _conditions(self, term: SearchTerm, *, is_one: bool) -> Iterator[tuple[int, str]]:
        """Yield the conditions of one term, with their place in the order."""
        found = self._found.get(term.operand())
        if found is None:
            yield _SLOW, _signed(self._in_texts(term), term)
            return
        if found == NO_PARTS:
            yield _QUICK, _signed("false", term)
            return
        ids = f"part_ids({self._bind(found, 'text')})"
        overlap = f"{self._alias}.parts && {ids}"
        if are_few(found) and (is_one or found.count(",") < MOST_COMPARED):
            if self._only_new:  # the index has all parts of a span, so the new ones are tested once more
                overlap = f"({overlap} AND {self._alias}.parts[{self._first}:] && {ids})"
            yield _QUICK, _signed(overlap, term)
            return
        named = fragment("has_named_part").format(t=self._alias, first=self._first, ids=ids)
        yield _QUICK, _signed(named, term)
        if are_few(found) and not term.negated:
            yield _FOR_THE_INDEX, overlap

    def _in_texts(self, term: SearchTerm) -> str:
        if not self._unknown:
            self._places = self._bind(self._unknown, "text[]"), self._bind(self._looks, "text[]"), self._weeks()
        self._unknown.append(term.operand())
        self._looks.append(term.pattern())
        words, patterns, weeks = self._places
        place = len(self._unknown)
        return fragment("has_shared_words").format(
            t=self._alias, word=f"({words})[{place}]", pattern=f"({patterns})[{place}]", weeks=weeks, first=self._first
        )


def _signed(condition: str, term: SearchTerm) -> str:
    return f"({condition}) IS NOT TRUE" if term.negated else condition
