"""Settings of a database that is spread over several nodes; :mod:`server.settings` has the whole table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from server.text.setting_values import one_of, setting

NONE: Final = "none"
CITUS: Final = "citus"

# Row-level security on a node reads the projects of the transaction from a SET LOCAL, which Citus forwards to nodes
# only with the first setting. Without the second one Citus hides its shards from pg_class, and the driver then takes
# seconds to ask for the types of parameters.
CONNECTION_SETTINGS: Final[dict[str, dict[str, str]]] = {
    NONE: {},
    CITUS: {"citus.propagate_set_commands": "local", "citus.override_table_visibility": "off"},
}
"""PostgreSQL settings of every connection of the server, by distribution."""


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
