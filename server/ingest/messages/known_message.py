"""A message together with what follows from it, for one that many spans repeat."""

from __future__ import annotations

from typing import Any


class KnownMessage(dict[str, Any]):
    """A message that several spans share: whoever changes one makes a copy.

    An agent's call carries the whole conversation before it, so each message comes again with every later call. Its
    words and its form as a part are worked out once (:mod:`server.ingest.messages.known_messages`).
    """

    __slots__ = ("is_multimodal", "part", "size", "words")

    def __init__(self, message: dict[str, Any], *, words: str, is_multimodal: bool, size: int) -> None:
        super().__init__(message)
        self.words = words
        """Its text, without the role."""
        self.is_multimodal = is_multimodal
        self.size = size
        """About how many bytes are held for it."""
        self.part: Any = None
        """Its form as a stored part, once a span was taken apart (``writing/content_layout.py``)."""
