"""The first message of a transaction: how its statements are planned, and which projects' rows it sees.

Rows are visible only to transactions that name their projects (``SET LOCAL app.projects``), which row-level security
checks. The value is written as a literal, because parameters cannot be used in SET and ``set_config()`` does not reach
the workers of a distributed engine.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from server.distribution_settings import CITUS, NONE

PROJECT_ID: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")

BEGIN: Final = "BEGIN"
_BEGIN_READ: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
# A plan for the actual values prunes partitions, uses partial indexes and knows how rare a word is. After five runs of
# a prepared statement PostgreSQL would try one plan for all values.
BEGIN_PLANNED_READ: Final = f"{_BEGIN_READ}; SET LOCAL plan_cache_mode = force_custom_plan"
# One plan for all values, made once per connection. It knows nothing about the values and may rest on old statistics,
# so it must be the right one whatever they are: it follows an index.
BEGIN_INDEX_READ: Final = "; ".join(
    (
        _BEGIN_READ,
        "SET LOCAL plan_cache_mode = force_generic_plan",
        *(f"SET LOCAL enable_{step} = off" for step in ("seqscan", "bitmapscan", "sort")),
    )
)
BEGINNINGS: Final[dict[tuple[str, bool], str]] = {
    (NONE, False): BEGIN_PLANNED_READ,
    (NONE, True): BEGIN_INDEX_READ,
    (CITUS, False): BEGIN_PLANNED_READ,
    # The node plans for the values in any case. The coordinator's plan, which only names the node, may be for all
    # values, or for these if it has to know the project.
    (CITUS, True): _BEGIN_READ,
}
"""Of a read, by distribution and by whether it follows an index."""
_SET_LOCAL: Final = re.compile(r"SET LOCAL (\w+) = (\w+)")


def opening_of(begin: str, projects: Sequence[str], distribution: str) -> str:
    """Return the one message that opens a transaction of ``projects``; ``begin`` is BEGIN and settings for planning."""
    if not projects:
        return begin
    if distribution != CITUS:
        return f"{begin}; {project_setting(projects)}"
    # Citus sends a node the whole text of the message in which it finds a SET LOCAL, BEGIN and all. A block's steps
    # are texts of their own. Settings for planning are for the coordinator: set_config() goes no further.
    opened, *settings = begin.split("; ")
    steps = [_SET_LOCAL.sub(r"PERFORM set_config('\1', '\2', true)", each) for each in settings]
    return f"{opened}; DO $open$BEGIN {'; '.join((*steps, project_setting(projects)))}; END$open$"


def project_setting(projects: Sequence[str]) -> str:
    """Return the SET LOCAL statement that opens the tenant wall for ``projects``.

    Raises ValueError for anything that is not a project id: this text becomes SQL.
    """
    for project in projects:
        if not PROJECT_ID.fullmatch(project):
            raise ValueError("not a project id")
    return f"SET LOCAL app.projects = '{','.join(projects)}'"
