"""What was said in a trace, once: each call of a model repeats the messages before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


class Message(NamedTuple):
    """One message: who says it (``system``, ``user``, ``assistant``, ``tool``), and what."""

    role: str
    content: str


@dataclass(slots=True)
class Conversations:
    """The conversations of a trace so far: agents that call one another have one each."""

    repeated: int = 0
    """Messages that were left out, since an earlier call had them."""
    _told: list[list[Message]] = field(default_factory=list)

    def new_messages(self, asked: Sequence[Message], answered: Sequence[Message]) -> list[Message]:
        """Return the messages of a call that no earlier one had, and remember all of them.

        Only a beginning counts as repeated: who says "yes" twice in one conversation says it twice here.
        """
        shared, place = max(((_shared(told, asked), place) for place, told in enumerate(self._told)), default=(0, -1))
        whole = [*asked, *answered]
        if place >= 0 and shared == len(self._told[place]):
            self._told[place] = whole  # the same conversation goes on
        else:
            self._told.append(whole)
        self.repeated += shared
        return whole[shared:]


def _shared(told: Sequence[Message], asked: Sequence[Message]) -> int:
    """Return how many messages both begin with."""
    length = min(len(told), len(asked))
    return next((place for place in range(length) if told[place] != asked[place]), length)
