"""The caller, its permissions, and the rows that they open."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from server.errors import InsufficientScope, ProjectForbidden
from server.storage.row_scope import RowScope


class Role(StrEnum):
    """The four roles. A role is a named set of scopes; a token's own scopes can only narrow it."""

    ADMIN = "admin"
    DEVELOPER = "developer"
    VIEWER = "viewer"
    BILLING = "billing"


@dataclass(frozen=True, slots=True)
class ScopeRule:
    """One OAuth scope: its permission, and the roles that hold it."""

    sentence: str
    roles: frozenset[Role]


_ALL = frozenset(Role)
_READERS = frozenset({Role.ADMIN, Role.DEVELOPER, Role.VIEWER})
_WRITERS = frozenset({Role.ADMIN, Role.DEVELOPER})
_ADMIN = frozenset({Role.ADMIN})

# Feeds enforcement, the token endpoint, OpenAPI and docs/reference/access.md.
SCOPES: Final[dict[str, ScopeRule]] = {
    "traces:read": ScopeRule("Read traces, sessions, users and facets; content only if the role allows it.", _ALL),
    "traces:write": ScopeRule("Send traces over OTLP.", _WRITERS),
    "traces:delete": ScopeRule("Delete traces.", _ADMIN),
    "content:read": ScopeRule("Read prompts, answers, messages, attributes and error texts.", _READERS),
    "metrics:read": ScopeRule("Read metrics other than money.", _ALL),
    "costs:read": ScopeRule("Read money: costs, prices, budgets, forecasts.", _ALL),
    "costs:write": ScopeRule("Set prices and budgets, and reprice stored spans.", _ADMIN),
    "scores:write": ScopeRule("Add scores and feedback to traces.", _WRITERS),
    "annotations:write": ScopeRule("Add annotations to dashboards.", _WRITERS),
    "exports:create": ScopeRule("Export traces.", _WRITERS),
    "keys:manage": ScopeRule("Create, list and revoke API keys.", _WRITERS),
    "clients:manage": ScopeRule("Register, list, disable and enable OAuth clients.", _ADMIN),
    "projects:manage": ScopeRule("Create and delete projects, with the grant of every project.", _ADMIN),
    "audit:read": ScopeRule("Read the audit log.", _ADMIN),
}

EVERY_PROJECT: Final = "*"


def role_scopes(role: Role) -> frozenset[str]:
    """Return all scopes that ``role`` holds."""
    return frozenset(name for name, rule in SCOPES.items() if role in rule.roles)


@dataclass(frozen=True, slots=True)
class Viewer:
    """The person behind a data source credential, named by a verified identity token of Grafana."""

    subject: str
    login: str
    role: str


@dataclass(frozen=True, slots=True)
class Principal:
    """A verified caller.

    ``projects`` holds the project ids that the credential grants, or ``{"*"}`` for all of them.
    ``scopes`` is already the intersection of role and credential.
    """

    subject: str
    role: Role
    scopes: frozenset[str]
    projects: frozenset[str]
    kind: str = "token"
    credential_id: str = ""
    """``jti`` of a token, id of a key."""
    key_kind: str = ""
    """Kind of the API key: ingest, dashboard or service."""
    rate_limit_per_minute: int | None = None
    """Requests per minute that an API key has in place of its role's."""
    account: str = ""
    """The account whose budget of requests is used; empty: the subject's."""
    expires_at: datetime | None = None
    """When an API key ends; None for tokens."""
    viewer: Viewer | None = None

    def __hash__(self) -> int:
        return hash((self.subject, self.credential_id))

    def require(self, scope: str, what: str = "This") -> None:
        """Raise :class:`InsufficientScope` unless the principal holds ``scope``, which ``what`` needs."""
        if scope not in self.scopes:
            raise InsufficientScope(
                f"{what} needs the scope {scope}.",
                headers={"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'},
            )

    @property
    def sees_every_project(self) -> bool:
        """Whether it has a ``*`` grant."""
        return EVERY_PROJECT in self.projects

    def require_explain(self) -> None:
        """Raise :class:`InsufficientScope` unless the principal may see plans of the database.

        A plan tells how many rows were read and thrown away, also those of other projects. So only a principal that may
        see all projects may see it.
        """
        if not self.sees_every_project:
            raise InsufficientScope("Only an administrator with the grant of every project may ask for query plans.")

    @property
    def may_read_content(self) -> bool:
        """Whether prompts, answers and error texts may be shown to this caller."""
        return "content:read" in self.scopes and self.role is not Role.BILLING

    def expected(self, requested: Sequence[str]) -> Collection[str]:
        """Return the projects that must exist for a question about the ``requested`` ones (none: all of its own), as
        far as the credential opens them.
        """
        if self.sees_every_project:
            return requested
        return self.projects.intersection(requested) if requested else self.projects

    def scope(self, requested: Sequence[str], existing: Sequence[str]) -> RowScope:
        """Return the rows this principal may see: the only place that decides so.

        ``requested``: project ids that the caller named, empty for "all of mine". ``existing``: all projects of the
        installation. Raises :class:`ProjectForbidden`, the same for a project of others and for one that does not
        exist, so that nobody can find out which is which.
        """
        known = frozenset(existing)
        granted = known if self.sees_every_project else self.projects & known
        if requested:
            if not set(requested) <= granted:
                raise ProjectForbidden()
            granted = frozenset(requested)
        return RowScope(tuple(sorted(granted)), self.may_read_content, "costs:read" in self.scopes)
