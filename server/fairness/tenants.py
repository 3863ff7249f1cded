"""The accounts of :mod:`server.fairness.fair_queue`: each tenant's present share of a resource, and its recent use."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Final

from server.fairness.usage import Usage

_ROUNDING: Final = 1e-9
"""Tolerance for rounding: three floating-point thirds do not add up to exactly one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Parts of the capacity."""

    alone: float = 0.8
    """The part that one tenant may hold while no other is active: a newcomer still finds room."""
    contended: float = 0.4
    """The same while others are active."""
    slow: float = 0.1
    """The same for a tenant whose uses take long."""
    all_slow: float = 0.6
    """The part that all slow tenants may hold together."""


@dataclass(slots=True, eq=False)
class Place:
    """A part of the resource that is held; to be given back."""

    tenant: Tenant | None
    principal: str
    amount: float
    since: float
    is_resting: bool = False
    """Whether its use is over, and nobody may have it yet."""


@dataclass(slots=True, eq=False)
class Waiter:
    """A use that waits for its turn."""

    amount: float
    granted: asyncio.Future[Place]


@dataclass(slots=True, eq=False, weakref_slot=True)
class ProjectUses:
    """The amounts that all tenants with one project in their set are charged for it."""

    held: float = 0.0
    usage: Usage = field(default_factory=Usage)


@dataclass(slots=True, eq=False)
class Tenant:
    """One set of projects, and its use of the resource."""

    name: str
    projects: tuple[ProjectUses, ...]
    limit: float
    """The part that it may hold while others are active."""
    last_seen: float
    usage: Usage = field(default_factory=Usage)
    is_slow: bool = False
    is_steady: bool = False
    """Whether its use has been more than a burst, and not little since."""
    heavy_until: float = 0.0
    """Moment until which it has one place at a time, because its last use had to rest."""
    held: float = 0.0
    by_principal: dict[str, float] = field(default_factory=dict)
    places: dict[Place, None] = field(default_factory=dict)
    """Oldest first."""
    waiting: OrderedDict[str, deque[Waiter]] = field(default_factory=OrderedDict)
    waiting_count: int = 0

    def has_room(self, amount: float, limit: float, project_limit: float) -> bool:
        """Return whether the tenant may hold ``amount`` more, under the limits of a tenant and a project. A tenant that
        holds nothing may always hold that much, unless other sets have used up its projects.
        """
        if self.held and self.held + amount > limit:
            return False
        part = amount / len(self.projects)
        most = max(project_limit, amount) + _ROUNDING
        return all(not uses.held or uses.held + part <= most for uses in self.projects)

    def used(self, now: float) -> tuple[float, float]:
        """Return the recent use of its projects, on average, and its own: the sort key of waiting tenants."""
        return sum(uses.usage.at(now) for uses in self.projects) / len(self.projects), self.usage.at(now)

    def hold(self, place: Place) -> None:
        """Note ``place`` as held."""
        self.held += place.amount
        self.by_principal[place.principal] = self.by_principal.get(place.principal, 0.0) + place.amount
        self.places[place] = None
        for uses in self.projects:
            uses.held += place.amount / len(self.projects)

    def charge(self, place: Place, now: float) -> None:
        """Note the use of ``place``, which is over."""
        used = (now - place.since) * place.amount
        self.usage.add(used, now)
        for uses in self.projects:
            uses.usage.add(used / len(self.projects), now)

    def drop(self, place: Place) -> None:
        """Note ``place`` as given back."""
        del self.places[place]
        self.held -= place.amount
        left = self.by_principal[place.principal] - place.amount
        if left > 0:
            self.by_principal[place.principal] = left
        else:
            del self.by_principal[place.principal]
        for uses in self.projects:
            left = uses.held - place.amount / len(self.projects)
            uses.held = left if left > _ROUNDING else 0.0
