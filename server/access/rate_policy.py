"""The buckets that a request draws from: the tiers of roles, and the name under which a caller is counted.

A budget belongs to an account and a route template, so that all tokens and keys of one subject share
it and no spelling of a path makes a fresh one. A key with a limit of its own has a budget of its own,
which the keys made with it share; a viewer whom Grafana vouches for has one, too, so that a hundred
people behind one data source credential do not starve each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Network
from typing import Final

from server.access.principal import EVERY_PROJECT, Principal, Role
from server.fairness.party import Party, tenant_of
from server.rate_limit.token_bucket import Bucket


@dataclass(frozen=True, slots=True)
class Tier:
    """Sustained requests per minute, and how many may come at once after a rest."""

    per_minute: int
    burst: int


TIERS: Final[dict[Role, Tier]] = {
    Role.ADMIN: Tier(100_000, 120_000),
    Role.DEVELOPER: Tier(10_000, 12_000),
    Role.VIEWER: Tier(1_000, 1_200),
    Role.BILLING: Tier(1_000, 1_200),
}

LARGEST_COST: Final = min(tier.burst for tier in TIERS.values())
"""The smallest tier could never use a route that costs more."""

BURST_FACTOR: Final = 1.2
TOKEN_ENDPOINT_PER_MINUTE: Final = 100
GUESSES_PER_MINUTE: Final = 10_000

# While Redis is down each process guards against guessing alone: it grants a quarter of its share.
_GUARD_SHARE: Final = 0.25


@lru_cache(maxsize=4096)
def request_buckets(principal: Principal, route: str, cost: int, *, project_ceiling: int = 0) -> tuple[Bucket, ...]:
    """Return the buckets of one request to the route template ``route``.

    ``project_ceiling``: requests per minute for all principals of one project together, 0 for none; it counts for
    principals of exactly one project.
    """
    tier = tier_of(principal)
    buckets = [Bucket(f"{identifier_of(principal)}\n{route}", tier.per_minute, tier.burst, cost)]
    if project_ceiling and len(principal.projects) == 1 and EVERY_PROJECT not in principal.projects:
        (project,) = principal.projects
        burst = max(math.ceil(project_ceiling * BURST_FACTOR), cost)
        buckets.append(Bucket(f"project\n{project}", project_ceiling, burst, cost, "project"))
    return tuple(buckets)


def tier_of(principal: Principal) -> Tier:
    """Return the tier of ``principal``: its key's own limit, the viewer's behind it, or its role's."""
    if principal.viewer is not None:
        return TIERS[Role.VIEWER]
    if principal.rate_limit_per_minute is not None:
        limit = principal.rate_limit_per_minute
        # The burst leaves room for the most expensive route.
        return Tier(limit, max(math.ceil(limit * BURST_FACTOR), 100))
    return TIERS[principal.role]


def identifier_of(principal: Principal) -> str:
    """Return the name under which the requests of ``principal`` are counted."""
    if principal.viewer is not None:
        return f"viewer\n{principal.credential_id}\n{principal.viewer.subject}"
    if principal.kind == "anonymous":
        return f"anonymous\n{network_of(principal.credential_id)}"
    return f"account\n{principal.account or principal.subject}"


@lru_cache(maxsize=4096)
def party_of(principal: Principal) -> Party:
    """Return the party of ``principal`` where tenants share a resource: the projects of its credential, and its name
    (:func:`identifier_of`).
    """
    return Party(tenant_of(principal.projects), identifier_of(principal))


def network_of(address: str) -> str:
    """Return the network whose budget an address draws on: of IPv6 the /64, because one subscriber has all of its
    addresses.
    """
    if ":" not in address:
        return address
    return str(IPv6Network((address, 64), strict=False))


def failed_authentication_bucket(address: str, per_minute: int) -> Bucket:
    """Return the budget of wrong credentials from one client address."""
    return Bucket(f"failed\n{network_of(address)}", per_minute, per_minute, 1, "failed-authentication", _GUARD_SHARE)


def client_bucket(client_id: str) -> Bucket:
    """Return the budget of a client at the token endpoint, for requests in which it proved who it is."""
    limit = TOKEN_ENDPOINT_PER_MINUTE
    return Bucket(f"token-endpoint client\n{client_id}", limit, limit, 1, "client", _GUARD_SHARE)


def guess_buckets(address: str) -> tuple[Bucket, Bucket]:
    """Return the two budgets of wrong proofs at the token endpoint from one network: for those that are answered as
    wrong, and for those that are verified at all.
    """
    network, answered, verified = network_of(address), TOKEN_ENDPOINT_PER_MINUTE, GUESSES_PER_MINUTE
    return (
        Bucket(f"token-endpoint wrong\n{network}", answered, answered, 1, "address", _GUARD_SHARE),
        Bucket(f"token-endpoint guesses\n{network}", verified, verified, 1, "address", _GUARD_SHARE),
    )
