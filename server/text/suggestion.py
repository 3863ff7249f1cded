"""The one "did you mean" of every error about an unknown name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

_LONGEST_NAME: Final = 64
"""Longest name that is compared, since the time grows with the product of both lengths. No name of ours is as long."""
_LIKENESS: Final = 0.65
"""Share of common characters above which a name is worth suggesting: `aggregation` is no `max_duration`."""
_MOST_NAMES: Final = 40
"""Up to so many names are listed in an error."""


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """Return the name in ``known`` that ``name`` most likely misspells, or None."""
    by_folded = {item.lower(): item for item in known}
    near = difflib.get_close_matches(name[:_LONGEST_NAME].lower(), by_folded, n=1, cutoff=_LIKENESS)
    return by_folded[near[0]] if near else None


def suggest(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean …?``, to be added to a sentence; empty if no known name is near."""
    near = nearest_name(name, known)
    return "" if near is None else f"; did you mean {near}?"


def suggest_or_list(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean …?``, or the known names if none is near, to be added to a sentence; empty if they are
    many.
    """
    names = sorted(known)
    hint = suggest(name, names)
    if hint or not names or len(names) > _MOST_NAMES:
        return hint
    return f"; expected {', '.join(names)}"
