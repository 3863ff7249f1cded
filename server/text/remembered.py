"""Memos of functions of one text that somebody else chose, such as the name of an attribute or a model.

:func:`functools.lru_cache` bounds the number of texts that it keeps, and not their length: four thousand names of a
megabyte each would fill the machine. Here a long text, which no honest sender repeats, is not kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar

T = TypeVar("T")

LONGEST: Final = 250
"""Characters of a text that is kept; the longest names in the tables of dialects have eighty."""


class _Memo(dict[str, T], Generic[T]):
    """Results by text. One that is full starts afresh, so that threads can share it without a lock."""

    def __init__(self, function: Callable[[str], T], most: int) -> None:
        super().__init__()
        self._function, self._most = function, most

    def __missing__(self, text: str) -> T:
        result = self._function(text)
        if len(text) <= LONGEST:
            if len(self) >= self._most:
                self.clear()
            self[text] = result
        return result


def remembered(most: int) -> Callable[[Callable[[str], T]], Callable[[str], T]]:
    """Return a decorator for functions of one text that keeps the results of at most ``most`` short ones.

    The decorated function is the look-up of a dictionary, which takes as long as ``lru_cache`` does.
    """

    def decorate(function: Callable[[str], T]) -> Callable[[str], T]:
        return _Memo(function, most).__getitem__

    return decorate
