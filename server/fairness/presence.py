"""Tenants that are about: whoever used anything of this process lately that tenants share.

A tenant that reads panels disturbs one that sends spans, although they meet in no queue.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from server.fairness.party import SERVER, UNKNOWN_CALLERS

ABOUT_SECONDS: Final = 10.0
"""Seconds after its last use for which a tenant counts as active."""
_NOBODY: Final = (SERVER.tenant, UNKNOWN_CALLERS)


class Presence:
    """The tenants of several queues, and when each was seen last."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, float] = OrderedDict()  # least recently seen first

    def note(self, tenant: str, now: float) -> None:
        """Note that ``tenant`` is about, unless it is nobody for whom others rest: the server, or callers that are not
        known. ``now`` is a moment of ``time.monotonic()``.
        """
        if tenant in _NOBODY:
            return
        seen = self._seen
        seen[tenant] = now
        seen.move_to_end(tenant)
        oldest = next(iter(seen))
        if now - seen[oldest] > ABOUT_SECONDS:
            del seen[oldest]

    def others_are_about(self, tenant: str, now: float) -> bool:
        """Return whether any tenant but ``tenant`` was seen lately."""
        for name, last in reversed(self._seen.items()):
            if name != tenant:
                return now - last < ABOUT_SECONDS
        return False


THIS_PROCESS: Final = Presence()
