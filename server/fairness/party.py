"""The party that is counted when a resource is shared: the tenant, and within it the principal.

The party of the current work is in a context variable, which tasks inherit, so that everything that a request starts is
counted for its caller without being passed through every layer. The guard sets it once the caller is known.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass
from typing import Final

_BETWEEN: Final = "\n"
"""Separates the projects in a tenant's name; no project's name contains it."""


@dataclass(frozen=True, slots=True)
class Party:
    """A principal and the tenant that it belongs to."""

    tenant: str
    """The projects that the credential opens, or the kind of caller where there is none."""
    principal: str
    patience: float | None = None
    """Seconds that the party waits for its turn; None: the patience of the resource."""

    @property
    def projects(self) -> list[str]:
        """The projects of the tenant, or the kind of caller."""
        return projects_of(self.tenant)


UNKNOWN_CALLERS: Final = "unknown callers"
SERVER = Party("", "")
"""The server's own work: background tasks, health checks. No share bounds it."""

current_party: ContextVar[Party] = ContextVar("party", default=SERVER)
"""The party that the running task works for."""


def tenant_of(projects: Iterable[str]) -> str:
    """Return the name of the tenant with these projects."""
    return _BETWEEN.join(sorted(projects)) or "no project"


def projects_of(tenant: str) -> list[str]:
    """Return the projects in the name of a tenant."""
    return tenant.split(_BETWEEN)


def context_of(party: Party) -> Context:
    """Return a context for a task that works for ``party``, even if another party starts it."""
    context = copy_context()
    context.run(current_party.set, party)
    return context


def server_context() -> Context:
    """Return a context for a task that works for everybody, although a request starts it."""
    return context_of(SERVER)


def unknown_caller(address: str) -> Party:
    """Return the party of a caller at ``address`` whose credential is not verified yet."""
    return Party(UNKNOWN_CALLERS, address)
