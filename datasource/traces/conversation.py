"""The messages of a trace, each once, although each call of a model repeats the messages before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


class Message(NamedTuple):
    """One message: its role (``system``, ``user``, ``assistant``, ``tool``) and its text."""

    role: str
    content: str


@dataclass(slots=True)
class Conversations:
    """The conversations of a trace so far: agents that call one another have one each."""

    repeated: int = 0
    """Number of messages left out because an earlier call had them."""
    _told: list[list[Message]] = field(default_factory=list)

    def new_messages(self, asked: Sequence[Message], answered: Sequence[Message]) -> list[Message]:
        """Return the messages of a call that no earlier call had, and remember all of them.

        Only messages at the beginning count as repeated: a second "yes" later in a conversation is a new message.
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
    """Return the number of messages that both begin with."""
    length = min(len(told), len(asked))
    return next((place for place in range(length) if told[place] != asked[place]), length)
