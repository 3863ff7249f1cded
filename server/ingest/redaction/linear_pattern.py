"""Regular expressions from people who must not be able to block the server.

Python's ``re`` backtracks: ``(a|aa)+b`` or ``(a?a?)*b`` on forty characters takes hours, and no inspection of a pattern
finds all such patterns. RE2 (package ``google-re2``) matches in time linear in the text, whatever the pattern, and
refuses features that it cannot match that way (back references, look-arounds). The size of its program bounds the
factor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

import re2

LONGEST_PATTERN: Final = 500
LARGEST_PROGRAM: Final = 2000
_MEMORY: Final = 1 << 20


class Pattern(Protocol):
    """The part of a compiled expression that redaction uses; ``re.Pattern`` has it too."""

    def search(self, string: str, /) -> Any:
        """Return a match anywhere in ``string``, or None."""

    def sub(self, repl: Callable[[Any], str], string: str, /) -> str:
        """Return ``string`` with every match replaced by ``repl(match)``; ``match[0]`` is the text that matched."""


class PatternError(ValueError):
    """The pattern is not accepted; the message says why."""


class LinearPattern:
    """A pattern in RE2: ``\\d``, ``\\w`` and ``\\b`` are about ASCII, ``\\pL`` is a letter of any script."""

    def __init__(self, pattern: str, *, any_case: bool = False) -> None:
        """Raises :class:`PatternError` if RE2 cannot compile it, it is too large, or it matches the empty text."""
        if not 1 <= len(pattern) <= LONGEST_PATTERN:
            raise PatternError(f"the pattern must be 1 to {LONGEST_PATTERN} characters long")
        options = re2.Options()
        options.max_mem = _MEMORY
        options.case_sensitive = not any_case
        options.log_errors = False
        try:
            self._compiled: Any = re2.compile(_sound(pattern), options)
        except re2.error as error:
            reason = error.args[0] if error.args else b""
            words = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
            raise PatternError(f"RE2 cannot compile the pattern: {words[:100]}") from error
        if self._compiled.programsize > LARGEST_PROGRAM:
            raise PatternError("the pattern is too large: use fewer or smaller repeats")
        if self._compiled.search(""):
            raise PatternError("the pattern matches the empty text, which is everywhere")

    def search(self, string: str, /) -> Any:
        """Return a match anywhere in ``string``, or None."""
        return self._compiled.search(_sound(string))

    def sub(self, repl: Callable[[Any], str], string: str, /) -> str:
        """Return ``string`` with every match replaced by ``repl(match)``."""
        replaced: str = self._compiled.sub(repl, _sound(string))
        return replaced


def _sound(text: str) -> str:
    """Return ``text`` without halves of surrogate pairs, which RE2's UTF-8 cannot hold."""
    return text.encode("utf-8", "replace").decode() if not text.isascii() else text
