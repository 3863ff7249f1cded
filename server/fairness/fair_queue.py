"""A bounded resource that tenants share: places at the database, decoder threads, bytes of memory, turns of the loop.

In a plain queue one caller can hold the whole resource, and most of the waiting places, too. Here

- a tenant holds at most its part, or a smaller part while other tenants are active, and one principal not all of it;
- a tenant is a set of projects. Its use counts for each of them, in equal parts, and no project is charged with more
  than a part either, so that credentials for many sets of the same projects gain nothing;
- a tenant whose uses take longer than ``quick_seconds`` (if set) holds still fewer places: the first long use reduces
  its part, and each quick one raises it by one place. All slow tenants together leave room for quick ones;
- among those that wait, the tenant with the least recent use is next, and its principals take turns;
- where the machine is busy, a tenant that wants more, and used more than the others on average, has one place at a
  time, which rests after each use;
- nobody waits longer than a bound.

A single holder is let in however much it asks for, as long as there is room for it at all.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict, deque
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import Final
from weakref import WeakValueDictionary

from server.errors import ApiError, ShareExhausted
from server.fairness.party import SERVER, Party, current_party
from server.fairness.presence import ABOUT_SECONDS, Presence
from server.fairness.tenants import Parts, Place, ProjectUses, Tenant, Waiter
from server.telemetry.observations import RateLimitHit, observe

FORGET_SECONDS: Final = 60.0
MOST_WAITING: Final = 256
"""Number of uses of one tenant that may wait at the same time."""
_PRINCIPAL_PART: Final = 0.75
_REST: Final = 3.0
"""A place rests for its use's time, times this, times the number of places that its tenant holds: however many these
are, it uses about a quarter of one."""
LONGEST_REST_SECONDS: Final = 2.0
BURST_SECONDS: Final = 4.0
"""Recent use of places (:class:`~server.fairness.usage.Usage`) after which they rest: more than that of a dashboard
that is opened on a busy machine."""
STEADY_SECONDS: Final = 1.5
"""Recent use down to which they go on resting then: that of a fifth of a place all the time."""


class FairQueue:
    """One shared resource of a process."""

    def __init__(
        self,
        name: str,
        capacity: float,
        *,
        patience: float,
        exhausted: Callable[[], ApiError],
        parts: Parts | None = None,
        quick_seconds: float | None = None,
        rests_while: Callable[[], bool] | None = None,
        share_patience: float = 0,
        presence: Presence | None = None,
    ) -> None:
        """``name`` of the resource in the plural, for messages and metrics. ``capacity`` in places or bytes.
        ``patience``: seconds that a use waits. ``exhausted`` makes the error for when the whole resource is in use; a
        tenant that has used up its own part gets :class:`ShareExhausted`. ``rests_while`` returns whether places rest
        (see above) at this moment; None: they never do. ``share_patience``: seconds that a use waits at least where
        only its tenant's own share is in use, which keeps nothing from others. ``presence``: the tenants of all queues
        with the same one, for whom places rest; None: those of this queue.
        """
        parts = parts or Parts()
        self.name = name
        self.capacity = capacity
        self.held = 0.0
        self._patience = patience
        self._exhausted = exhausted
        self._quick_seconds = quick_seconds
        self._rests_while = rests_while
        self._share_patience = share_patience
        self._presence = presence
        self._alone, self._contended, self._slow, self._all_slow = (
            max(1.0, capacity * part // 1) for part in (parts.alone, parts.contended, parts.slow, parts.all_slow)
        )
        self._tenants: OrderedDict[str, Tenant] = OrderedDict()  # least recently seen first
        self._projects: WeakValueDictionary[str, ProjectUses] = WeakValueDictionary()
        self._queued: dict[Tenant, None] = {}
        self._wanted: dict[Place, asyncio.Future[None]] = {}
        """Places in the hands of holders that leave the loop to others for a moment (:meth:`pass_on`)."""

    def hold(self, amount: float = 1) -> _Hold:
        """Return a context manager that holds ``amount`` for an ``async with``. It raises the errors of
        :meth:`take`."""
        return _Hold(self, amount)

    async def take(self, amount: float = 1) -> Place:
        """Hold ``amount`` for the current party until :meth:`give_back`.

        Raises :class:`ShareExhausted` when the tenant has held its part for too long, else what ``exhausted`` makes.
        """
        party = current_party.get()
        place = self._granted(party, amount)
        if place is not None:
            return place
        tenant = self._tenant_of(party, monotonic())
        if tenant.waiting_count >= MOST_WAITING:
            raise self._refusal(tenant, amount)
        waiter = Waiter(amount, asyncio.get_running_loop().create_future())
        tenant.waiting.setdefault(party.principal, deque()).append(waiter)
        tenant.waiting_count += 1
        self._queued[tenant] = None
        self._end_rests(tenant)
        patience = self._patience if party.patience is None else party.patience
        try:
            await asyncio.wait([waiter.granted], timeout=patience)
            if not waiter.granted.done() and self._is_own_share(tenant, amount):
                await asyncio.wait([waiter.granted], timeout=max(0.0, self._share_patience - patience))
            if not waiter.granted.done():
                raise self._refusal(tenant, amount)
        except BaseException:
            self._leave(tenant, party.principal, waiter)
            raise
        return waiter.granted.result()

    def give_back(self, place: Place, rest: float = 0) -> None:
        """Give ``place`` back, and let in those who wait. Its own tenant may have to wait until it has rested, for
        ``rest`` seconds at least.
        """
        self.held -= place.amount
        tenant = place.tenant
        if tenant is not None:
            now = monotonic()
            seconds = now - place.since
            self._adapt(tenant, seconds)
            tenant.charge(place, now)
            if self._rests_while is not None:
                tenant.heavy_until = 0.0
                if self._must_rest(tenant, now) and self._rests_while():
                    tenant.heavy_until = now + ABOUT_SECONDS
                    rest = max(rest, min(_REST * tenant.held / place.amount * seconds, LONGEST_REST_SECONDS))
            if rest:
                place.is_resting = True
                asyncio.get_running_loop().call_later(rest, self._rested, tenant, place)
            else:
                tenant.drop(place)
        if self._queued:
            self._serve()

    def _rested(self, tenant: Tenant, place: Place) -> None:
        tenant.drop(place)
        if self._queued:
            self._serve()

    def _must_rest(self, tenant: Tenant, now: float) -> bool:
        """Return whether ``tenant`` has more uses waiting than places, while others are about, has used more than a
        burst and little less since, and more lately than these on average.
        """
        used = tenant.usage.at(now)
        tenant.is_steady = used > (STEADY_SECONDS if tenant.is_steady else BURST_SECONDS)
        if not tenant.is_steady or tenant.waiting_count <= len(tenant.places):
            return False
        # There is another tenant, even if it does not use this queue.
        average = sum(other.usage.at(now) for other in self._tenants.values()) / max(2, len(self._tenants))
        return used > average and self._others_are_here(tenant, now)

    async def pass_on(self, place: Place, rest: float = 0) -> Place:
        """Yield to the event loop, and ``place`` to a party with a better claim; return a place to continue with.

        For long work in small steps. ``rest``: seconds for which the loop is left to others, if other tenants are
        about, until one of them wants the place. It never raises for lack of room; if it raises, ``place`` has been
        released.
        """
        tenant = place.tenant
        if tenant is None or not self._others_wait(tenant):
            try:
                await self._leave_the_loop(place, rest)
            except BaseException:
                self.give_back(place)
                raise
            if tenant is None or not self._others_wait(tenant):
                return place
        waiter = Waiter(place.amount, asyncio.get_running_loop().create_future())
        tenant.waiting.setdefault(place.principal, deque()).appendleft(waiter)
        tenant.waiting_count += 1
        self._queued[tenant] = None
        self.give_back(place)
        try:
            return await waiter.granted
        except BaseException:
            self._leave(tenant, place.principal, waiter)
            raise

    async def _leave_the_loop(self, place: Place, rest: float) -> None:
        if not rest or not self.is_shared(place):
            await asyncio.sleep(0)
            return
        self._wanted[place] = wanted = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait([wanted], timeout=rest)
        finally:
            del self._wanted[place]

    def _end_rests(self, tenant: Tenant) -> None:
        """Let holders other than ``tenant``, which has begun to wait, pass on their places at once."""
        for place, wanted in self._wanted.items():
            if place.tenant is not tenant and not wanted.done():
                wanted.set_result(None)

    def _others_wait(self, tenant: Tenant) -> bool:
        return any(other is not tenant for other in self._queued)

    def is_shared(self, place: Place) -> bool:
        """Return whether tenants other than the holder of ``place`` use this queue lately."""
        return place.tenant is not None and self._others_are_about(place.tenant, monotonic())

    def is_among_others(self, place: Place) -> bool:
        """Return whether tenants other than the holder of ``place`` use this queue, or another with its presence."""
        return place.tenant is not None and self._others_are_here(place.tenant, monotonic())

    def waiting(self) -> int:
        """Return the number of uses that wait."""
        return sum(tenant.waiting_count for tenant in self._queued)

    def _granted(self, party: Party, amount: float) -> Place | None:
        """Return a place at once, or None if a limit forbids it or others of the tenant wait already."""
        now = monotonic()
        if party.tenant == SERVER.tenant:
            if self.held and self.held + amount > self.capacity:
                return None
            self.held += amount
            return Place(None, "", amount, now)
        tenant = self._tenant_of(party, now)
        if tenant.waiting_count or not self._may_hold(tenant, party.principal, amount, now):
            return None
        return self._grant(tenant, party.principal, amount, now)

    def _grant(self, tenant: Tenant, principal: str, amount: float, now: float) -> Place:
        place = Place(tenant, principal, amount, now)
        self.held += amount
        tenant.hold(place)
        return place

    def _may_hold(self, tenant: Tenant, principal: str, amount: float, now: float) -> bool:
        if self.held and self.held + amount > self.capacity:
            return False
        limit = self._limit(tenant, now)
        if not tenant.has_room(amount, limit, max(limit, self._contended)):
            return False
        if tenant.held:
            own = tenant.by_principal.get(principal, 0.0)
            if own and own + amount > math.ceil(limit * _PRINCIPAL_PART):
                return False
        if tenant.is_slow and limit == self._slow:
            slow = sum(other.held for other in self._tenants.values() if other.is_slow)
            return not slow or slow + amount <= self._all_slow
        return True

    def _limit(self, tenant: Tenant, now: float) -> float:
        """Return the amount that ``tenant`` may hold at this moment."""
        if now < tenant.heavy_until:
            return self._slow
        if not self._others_are_about(tenant, now):
            return self._alone
        if self._quick_seconds is None:
            return self._contended
        oldest = next((place for place in tenant.places if not place.is_resting), None)
        if oldest is not None and now - oldest.since > self._quick_seconds:
            tenant.limit, tenant.is_slow = self._slow, True
        return tenant.limit

    def _adapt(self, tenant: Tenant, seconds: float) -> None:
        if self._quick_seconds is None:
            return
        if seconds > self._quick_seconds:
            tenant.limit, tenant.is_slow = self._slow, True
        elif tenant.limit < self._contended:
            tenant.limit, tenant.is_slow = tenant.limit + 1, False

    def _others_are_about(self, tenant: Tenant, now: float) -> bool:
        for other in reversed(self._tenants.values()):
            if other is not tenant:
                return other.held > 0 or now - other.last_seen < ABOUT_SECONDS
        return False

    def _others_are_here(self, tenant: Tenant, now: float) -> bool:
        """Return whether other tenants are active in any queue with the same presence."""
        if self._presence is not None and self._presence.others_are_about(tenant.name, now):
            return True
        return self._others_are_about(tenant, now)

    def _tenant_of(self, party: Party, now: float) -> Tenant:
        if self._presence is not None:
            self._presence.note(party.tenant, now)
        tenant = self._tenants.get(party.tenant)
        if tenant is None:
            self._forget_idle(now)
            tenant = self._tenants[party.tenant] = Tenant(party.tenant, self._uses_of(party), self._slow, now)
        else:
            tenant.last_seen = now
            self._tenants.move_to_end(party.tenant)
        return tenant

    def _uses_of(self, party: Party) -> tuple[ProjectUses, ...]:
        """Return the uses of each of the party's projects, which other sets of projects share."""
        found = []
        for name in party.projects:
            uses = self._projects.get(name)
            if uses is None:
                uses = self._projects[name] = ProjectUses()
            found.append(uses)
        return tuple(found)

    def _forget_idle(self, now: float) -> None:
        for name, tenant in list(self._tenants.items()):
            if now - tenant.last_seen < FORGET_SECONDS:
                break
            if not tenant.held and not tenant.waiting_count:
                del self._tenants[name]

    def _serve(self) -> None:
        """Let in as many of those who wait as there is room for."""
        now = monotonic()
        while self._queued:
            for tenant in sorted(self._queued, key=lambda item: item.used(now)):
                if self._let_in(tenant, now):
                    break
            else:
                return

    def _let_in(self, tenant: Tenant, now: float) -> bool:
        for principal, waiters in tenant.waiting.items():
            waiter = waiters[0]
            is_gone = waiter.granted.done()  # cancelled, its task has not run yet
            if is_gone or self._may_hold(tenant, principal, waiter.amount, now):
                waiters.popleft()
                self._count_off(tenant, principal)
                if principal in tenant.waiting:
                    tenant.waiting.move_to_end(principal)
                if not is_gone:
                    waiter.granted.set_result(self._grant(tenant, principal, waiter.amount, now))
                return True
        return False

    def _leave(self, tenant: Tenant, principal: str, waiter: Waiter) -> None:
        """Take ``waiter``, whose task was cancelled, out of the queue; what it was granted meanwhile goes back."""
        if waiter.granted.done() and not waiter.granted.cancelled():
            self.give_back(waiter.granted.result())
        elif waiter in tenant.waiting.get(principal, ()):
            tenant.waiting[principal].remove(waiter)
            self._count_off(tenant, principal)

    def _count_off(self, tenant: Tenant, principal: str) -> None:
        tenant.waiting_count -= 1
        if not tenant.waiting[principal]:
            del tenant.waiting[principal]
        if not tenant.waiting_count:
            self._queued.pop(tenant, None)

    def _is_own_share(self, tenant: Tenant, amount: float) -> bool:
        """Return whether ``tenant`` waits for its own share, and not for the whole resource."""
        return tenant.is_slow or self.held + amount <= self.capacity

    def _refusal(self, tenant: Tenant, amount: float) -> ApiError:
        if not self._is_own_share(tenant, amount):
            return self._exhausted()
        observe(RateLimitHit(f"share of {self.name}"))
        return ShareExhausted(
            f"Your project's share of {self.name} is in use; try again.", headers={"Retry-After": "1"}
        )


class _Hold:
    """A context manager that holds an amount inside of ``async with``."""

    __slots__ = ("_amount", "_place", "_queue")

    def __init__(self, queue: FairQueue, amount: float) -> None:
        self._queue = queue
        self._amount = amount
        self._place: Place | None = None

    async def __aenter__(self) -> Place:
        self._place = await self._queue.take(self._amount)
        return self._place

    async def __aexit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._place is not None:
            self._queue.give_back(self._place)
