"""The settings of a database of several nodes: a part of the table of :mod:`server.settings`, which has them all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from server.text.setting_values import one_of, setting

NONE: Final = "none"
CITUS: Final = "citus"

# Citus hands SET LOCAL on to the nodes that a transaction works on only when it is told to. Row-level security reads
# the projects of the transaction there. And it hides its shards from pg_class, which makes the driver's question for
# the types of parameters take seconds.
CONNECTION_SETTINGS: Final[dict[str, dict[str, str]]] = {
    NONE: {},
    CITUS: {"citus.propagate_set_commands": "local", "citus.override_table_visibility": "off"},
}
"""Settings of PostgreSQL that every connection of the server takes on, by distribution."""


@dataclass(frozen=True, kw_only=True)
class DistributionSettings:
    """How tables are spread over nodes; see docs/explanation/scaling.md."""

    database_distribution: str = setting(
        "DATABASE_DISTRIBUTION",
        NONE,
        "How the tables are spread over nodes: `none` (one PostgreSQL) or `citus` (by project, over the nodes that the "
        "extension `citus` of the database knows). The same for `migrate` and for all servers.",
        parse=one_of(NONE, CITUS),
    )
