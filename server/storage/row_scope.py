"""Which rows a question may see."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RowScope:
    """The projects a reader is limited to, and whether it may see content.

    Made in one place only, :meth:`server.access.principal.Principal.scope`, from a verified
    principal. Readers put the project predicate outside of the caller's filter, and the
    database's row-level security checks it once more.

    ``may_read_content`` is false for those who see money and counts but never prompts, answers
    or error texts (role Billing). ``may_read_costs`` is false without the scope ``costs:read``: the metric engine
    then neither answers nor filters by money.
    """

    projects: tuple[str, ...]
    may_read_content: bool = True
    may_read_costs: bool = True
