"""The rows that a question may see."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RowScope:
    """The projects to which a reader is limited, and whether it may see content and costs.

    Made in one place only, :meth:`server.access.principal.Principal.scope`, from a verified principal. Readers put the
    project predicate outside of the caller's filter, and the database's row-level security checks it once more.

    ``may_read_content`` is false for principals that see money and counts but never prompts, answers or error texts
    (role Billing). ``may_read_costs`` is false without the scope ``costs:read``: the metric engine then neither returns
    money nor filters by it.
    """

    projects: tuple[str, ...]
    may_read_content: bool = True
    may_read_costs: bool = True
