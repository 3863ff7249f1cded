"""Cache of parsed list requests by address and caller, kept for a second, for busy panels.

Reading the parameters of a list, resolving its times and deriving its cache key costs several times as much as the
answer. The result depends only on the address, the caller and the existing projects. Access is checked first, for each
request; the result cache decides whether an answer is still valid.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cachetools import TTLCache

from server.access.principal import Principal
from server.cache.result_cache import CacheQuestion
from server.cache.stored_answer import CachedAnswer
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
    """The projects that existed, as :class:`~server.queries.records.project_list.ProjectList` returned them."""
    scope: RowScope
    question: ListQuestion
    now: datetime
    """The moment that relative times were resolved against."""
    cached: CacheQuestion
    address: bytes | None = None
    """The address of the list, if its answers link to the next page."""
    _source: weakref.ref[CachedAnswer] | None = None
    _rendered: Rendered | None = None

    def rendered(self, answer: CachedAnswer, render: Callable[[], Rendered]) -> Rendered:
        """Return the parts of the response that stay the same as long as ``answer`` does."""
        if self._rendered is None or self._source is None or self._source() is not answer:
            self._rendered = render()
            # The answer itself is not kept here: it may be large, and the result cache limits the number of answers.
            self._source = weakref.ref(answer)
        return self._rendered


class ListMemory:
    """Known lists by address and caller."""

    def __init__(self) -> None:
        self._known: TTLCache[tuple[bytes, int], KnownList] = TTLCache(MOST_KEPT, KEPT_SECONDS)

    def find(self, address: bytes, principal: Principal) -> KnownList | None:
        """Return the list that ``address`` meant for this very ``principal`` less than a second ago. The caller checks
        that the same projects exist.
        """
        try:
            known = self._known[address, id(principal)]  # get() looks twice
        except KeyError:
            return None
        return known if known.principal is principal else None

    def keep(self, known: KnownList) -> None:
        """Keep ``known``, which has an address, for a second."""
        self._known[known.address or b"", id(known.principal)] = known
