"""What an address comes down to for a caller, kept for a second, so that a busy panel is not read anew each time.

Reading the parameters of a list, resolving its times and naming it to the cache costs several times what the
answer does. None of it depends on more than the address, the caller and the projects that exist. Who may ask is
decided before and anew for each request; whether the answer still counts is for the cache to say.
"""

from __future__ import annotations

import time
import weakref
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from server.access.principal import Principal
from server.cache.result_cache import CachedAnswer, CacheQuestion
from server.http.conditional import Rendered
from server.queries.lists.list_question import ListQuestion
from server.rest.list_request import ListRequest
from server.storage.row_scope import RowScope

KEPT_SECONDS: Final = 1.0
MOST_KEPT: Final = 1000


@dataclass(slots=True)
class KnownList:
    """A list request of one caller, read and checked."""

    asked: ListRequest
    principal: Principal
    existing: tuple[str, ...]
    """The projects that existed, as :class:`~server.queries.records.project_list.ProjectList` gave them."""
    scope: RowScope
    question: ListQuestion
    now: datetime
    """The moment that relative times were resolved against."""
    cached: CacheQuestion
    address: bytes | None = None
    """Where the list was asked for, when pages of it are linked to."""
    read_at: float = field(default_factory=time.monotonic)
    _source: weakref.ref[CachedAnswer] | None = None
    _rendered: Rendered | None = None

    def rendered(self, answer: CachedAnswer, render: Callable[[], Rendered]) -> Rendered:
        """The parts of the response that are the same while ``answer`` is."""
        if self._rendered is None or self._source is None or self._source() is not answer:
            self._rendered = render()
            # Not the answer itself: it may be large, and the cache decides how many of those are kept.
            self._source = weakref.ref(answer)
        return self._rendered


class ListMemory:
    """Known lists by address and caller; the least recently used are forgotten."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[bytes, int], KnownList] = OrderedDict()

    def find(self, address: bytes, principal: Principal) -> KnownList | None:
        """What ``address`` meant to this very ``principal`` less than a second ago. Whether the same projects exist
        is for the caller to compare."""
        known = self._known.get((address, id(principal)))
        if known is None or known.principal is not principal:
            return None
        return known if time.monotonic() - known.read_at < KEPT_SECONDS else None

    def keep(self, known: KnownList) -> None:
        """Keep ``known``, which has an address, for a second."""
        name = (known.address or b"", id(known.principal))
        self._known[name] = known
        self._known.move_to_end(name)
        while len(self._known) > MOST_KEPT:
            self._known.popitem(last=False)
